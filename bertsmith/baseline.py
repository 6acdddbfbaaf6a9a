"""What a number must beat: the majority answer, and TF-IDF with a linear model, on the same splits by the same metrics.

scikit-learn does the work (an optional install); no setting is chosen on the test split.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bertsmith.examples import Examples
from bertsmith.task import Task

STRENGTHS = (0.3, 1.0, 3.0, 10.0)  # inverse regularisation, chosen on the validation split


def majority(task: Task, train: Examples, test: Examples) -> dict[str, float | None]:
    """The metrics of one constant answer: the commonest label of train, each label's commoner value, or the mean."""
    y = task.true(task.encode(train.label))
    if y.ndim == 2:
        answer = y.mean(axis=0) > 0.5
    elif y.dtype.kind == "f":
        answer = y.mean()
    else:
        answer = np.bincount(y, minlength=len(task.labels)).argmax()
    return measure(task, np.repeat(np.asarray(answer)[None], len(test), axis=0), test)


def measure(task: Task, predicted: np.ndarray, examples: Examples) -> dict[str, float | None]:
    """The task's metrics of predictions, as the task reads them, for examples."""
    scores = task.metrics()
    scores.add_read(predicted, task.true(task.encode(examples.label)))
    return scores.value()


def tfidf(task: Task, train: Examples, valid: Examples, test: Examples) -> dict[str, Any]:
    """TF-IDF of words and word pairs (sublinear counts), then logistic regression (one against the rest), or ridge.

    A pair of texts is |a - b|, a * b and the cosine of their TF-IDF vectors. The strength of regularisation is the
    one of `STRENGTHS` that is best on `valid`. Gives the metrics on `test`, and "strength".
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(train) >= 1000 else 1, token_pattern=r"\w+|[^\w\s]"
    )
    vectorizer.fit(train.text + (train.pair or []))

    def features(examples: Examples) -> Any:
        a = vectorizer.transform(examples.text)
        if examples.pair is None:
            return a
        b = vectorizer.transform(examples.pair)
        both = a.multiply(b)
        return sparse.hstack([abs(a - b), both, both.sum(axis=1)]).tocsr()

    x, y = features(train), task.true(task.encode(train.label))
    x_valid, x_test = features(valid), features(test)
    best, chosen, strength = None, None, STRENGTHS[0]
    for candidate in STRENGTHS:
        model = _linear(y, candidate).fit(x, y)
        score = measure(task, _read(model, x_valid, y), valid)
        main = task.metrics().main
        if chosen is None or task.metrics().better(score[main], best):
            best, chosen, strength = score[main], model, candidate
    return measure(task, _read(chosen, x_test, y), test) | {"strength": strength}


def _linear(y: np.ndarray, strength: float) -> Any:
    """The linear model for targets of this shape and kind."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if y.dtype.kind == "f":
        return Ridge(alpha=1.0 / strength)
    if y.ndim == 1 and len(np.unique(y)) == 1:
        return DummyClassifier(strategy="most_frequent")
    logistic = LogisticRegression(C=strength, max_iter=1000)
    return OneVsRestClassifier(logistic) if y.ndim == 2 else logistic


def _read(model: Any, x: Any, y: np.ndarray) -> np.ndarray:
    """Predictions in the type of the training targets."""
    return np.asarray(model.predict(x)).astype(y.dtype)
