"""Every baseline that can do a task, beside a run: on its splits, by its metrics."""

from __future__ import annotations

from typing import Any

from bertsmith.baseline import Baseline, baseline, measure, shape_of
from bertsmith.examples import Examples
from bertsmith.feature import feature
from bertsmith.frozen import Frozen
from bertsmith.sets import Also
from bertsmith.spec import Spec
from bertsmith.table import Say, aloud
from bertsmith.task import Task


def usual(frozen: bool = True) -> dict[str, Spec]:
    """Name in a report -> baseline. frozen: those too that read an encoder's vectors."""
    words = {
        "tfidf": baseline("linear"),
        "naive_bayes": baseline("naive_bayes"),
        "svm": baseline("svm"),
        "forest": baseline("forest"),
        "gzip": baseline("gzip"),
        "text_cnn": baseline("text_cnn"),
        "word_tags": baseline("word_tags"),
    }
    vectors = {
        "frozen_linear": baseline("linear", features=feature("encoder")),
        "frozen_forest": baseline("forest", features=feature("encoder")),
        "nearest_mean": baseline("nearest_mean"),
        "knn": baseline("knn"),
        "knn_mix": baseline("knn_mix"),
        "memory": baseline("memory"),
    }
    return words | (vectors if frozen else {})


def simplest() -> dict[str, Spec]:
    """What stands beside every score: over words of a text, or over the tags of a word."""
    return {"tfidf": baseline("linear"), "word_tags": baseline("word_tags")}


def beside(
    specs: dict[str, Spec],
    task: Task,
    train: Examples,
    valid: Examples | None,
    test: Examples,
    frozen: Frozen | None = None,
    say: Say = aloud,
    also: Also | None = None,
) -> dict[str, dict[str, Any]]:
    """Name -> the metrics on test and what was chosen on valid, as `baseline.run`.

    One that cannot do the task is left out, and this is said, but of those for words where texts are asked, and the other way
    round; so are all, where the task has neither one answer a text nor spans.

    Args:
        also: more scores, of spans that were found.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, spec in specs.items():
        fitted: Baseline = spec.build(task, frozen)
        try:
            shape = shape_of(fitted.targets(train))
        except ValueError as error:
            say(f"no baselines but the constant one: {error}")
            break
        if (shape == "spans") != ("spans" in fitted.serves):
            continue
        if shape not in fitted.serves:
            say(f"no baseline {name}: {fitted.name} serves {' and '.join(fitted.serves)}, not {shape}")
            continue
        fitted.fit(train, valid)
        said = fitted.predict(test)
        found[name] = measure(task, said, test) | fitted.chosen
        if also is not None and shape == "spans":
            found[name] |= also(list(said))
    return found
