"""Baselines: they equal scikit-learn's, learn what words tell, and see no test label."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score

from bertsmith.baseline import majority, tfidf
from bertsmith.examples import Examples
from bertsmith.task import task


def toy(count: int, seed: int, pairs: bool = False) -> Examples:
    """Texts whose label is a word in them (or, for pairs, whether both have the same word)."""
    rng = np.random.default_rng(seed)
    noise = [" ".join(f"w{i}" for i in rng.integers(0, 50, 8)) for _ in range(count)]
    sign = rng.integers(0, 2, count)
    text = [f"{n} {('good', 'bad')[s]}" for n, s in zip(noise, sign, strict=True)]
    other = rng.integers(0, 2, count)
    pair = [f"quite {('good', 'bad')[s]}" for s in other] if pairs else None
    return Examples(text, pair, [int(a == b) for a, b in zip(sign, other, strict=True)] if pairs else sign.tolist())


def test_majority_is_the_commonest_training_label():
    one = task("single_label").build(["a", "b"])
    train, test = Examples(["x"] * 5, None, list("aabbb")), Examples(["x"] * 4, None, list("abaa"))
    assert majority(one, train, test)["accuracy"] == 0.25
    several = task("multi_label").build(["a", "b"])
    raw = ["a", "a|b", "a", ""]
    y = several.true(several.encode(raw))
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((4, 1)), y).predict(np.zeros((4, 1)))
    found = majority(several, Examples(["x"] * 4, None, raw), Examples(["x"] * 4, None, raw))
    assert found["micro_f1"] == pytest.approx(f1_score(y, dummy, average="micro", zero_division=0))
    number = task("regression").build([])
    found = majority(number, Examples(["x"] * 2, None, [1, 3]), Examples(["x"] * 2, None, [2, 4]))
    assert found["pearson"] is None and found["rmse"] == pytest.approx(2**0.5)


@pytest.mark.parametrize("pairs", [False, True])
def test_tfidf_learns_what_words_tell(pairs):
    one = task("single_label").build(["0", "1"])
    found = tfidf(one, toy(200, 0, pairs), toy(50, 1, pairs), toy(100, 2, pairs))
    assert found["accuracy"] > 0.95 and found["strength"] in (0.3, 1.0, 3.0, 10.0)


def test_tfidf_serves_every_task():
    number = task("regression").build([])
    splits = [Examples(e.text, None, [2.0 * y + 1 for y in e.label]) for e in (toy(200, 0), toy(50, 1), toy(100, 2))]
    assert tfidf(number, *splits)["pearson"] > 0.95
    several = task("multi_label").build(["x", "y"])
    splits = [
        Examples(e.text, None, ["x|y" if y else "y" for y in e.label]) for e in (toy(200, 0), toy(50, 1), toy(100, 2))
    ]
    with pytest.warns(UserWarning, match="present in all"):
        assert tfidf(several, *splits)["micro_f1"] > 0.97


def test_one_class_in_training_is_not_an_error():
    one = task("single_label").build(["0", "1"])
    only = Examples(toy(20, 0).text, None, [1] * 20)
    assert tfidf(one, only, toy(10, 1), toy(10, 2))["matthews"] == 0


def test_test_labels_change_nothing_but_the_score():
    one, train, valid, test = task("single_label").build(["0", "1"]), toy(200, 0), toy(50, 1), toy(100, 2)
    flipped = Examples(test.text, None, [1 - y for y in test.label])
    a, b = tfidf(one, train, valid, test), tfidf(one, train, valid, flipped)
    assert a["strength"] == b["strength"] and a["accuracy"] + b["accuracy"] == pytest.approx(1)
