"""Tasks and metrics: labels make the round trip; streamed metrics equal scikit-learn and SciPy on the whole."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference

from bertsmith.metric import metric
from bertsmith.task import task


def streamed(kind: str, labels: int, predicted: np.ndarray, true: np.ndarray, **settings) -> float:
    """The metric after batches of uneven sizes."""
    one = metric(kind, **settings).build(labels)
    for at in np.array_split(np.arange(len(true)), 7):
        one.add(predicted[at], true[at])
    return one.value()


CLASSES = {
    "accuracy": reference.accuracy_score,
    "macro_f1": lambda t, p: reference.f1_score(t, p, average="macro", zero_division=0),
    "micro_f1": lambda t, p: reference.f1_score(t, p, average="micro", zero_division=0),
    "matthews": reference.matthews_corrcoef,
}


@pytest.mark.parametrize("kind", sorted(CLASSES))
@pytest.mark.parametrize("labels", [2, 5])
def test_class_metrics_equal_scikit_learn(kind, labels):
    rng = np.random.default_rng(labels)
    for trial in range(20):
        true = rng.integers(0, labels - trial % 2, 60)  # in odd trials the last label never occurs
        predicted = np.where(rng.random(60) < 0.6, true, rng.integers(0, labels - trial % 2, 60))
        assert streamed(kind, labels, predicted, true) == pytest.approx(CLASSES[kind](true, predicted), abs=1e-12)


@pytest.mark.parametrize("positive", [0, 1])
def test_binary_f1_equals_scikit_learn(positive):
    rng = np.random.default_rng(3)
    true, predicted = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    expected = reference.f1_score(true, predicted, pos_label=positive)
    assert streamed("f1", 2, predicted, true, positive=positive) == pytest.approx(expected, abs=1e-12)
    assert streamed("f1", 2, np.ones(9, np.int64) - positive, np.ones(9, np.int64) - positive, positive=positive) == 0


@pytest.mark.parametrize("kind", ["accuracy", "macro_f1", "micro_f1"])
def test_label_set_metrics_equal_scikit_learn(kind):
    rng = np.random.default_rng(4)
    for rate in (0.0, 0.1, 0.5):
        true, predicted = rng.random((40, 6)) < 0.3, rng.random((40, 6)) < rate
        true[:, 5] = predicted[:, 5] = False
        assert streamed(kind, 6, predicted, true) == pytest.approx(CLASSES[kind](true, predicted), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_correlations_and_error_equal_scipy(shift):
    rng = np.random.default_rng(5)
    true = np.round(rng.normal(size=200), 1)
    predicted = np.round(true + rng.normal(size=200), 1)
    x, y = predicted + shift, true - shift
    assert streamed("pearson", 1, x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert streamed("spearman", 1, x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert streamed("rmse", 1, x, y) == pytest.approx(reference.root_mean_squared_error(y, x), rel=1e-12)


def test_a_correlation_with_a_constant_is_not_defined():
    for kind in ("pearson", "spearman"):
        assert np.isnan(streamed(kind, 1, np.full(30, 0.1), np.arange(30.0)))
    scores = task("regression").build([]).metrics()
    scores.add_read(np.zeros(4), np.arange(4.0))
    assert scores.value()["pearson"] is None and scores.constant
    assert scores.better(-0.5, None) and not scores.better(None, -0.5) and not scores.better(0.1, 0.1)


def test_single_labels_make_the_round_trip():
    one = task("single_label").build(task("single_label").build([]).names([10, 2.0, "1", " 2 "]))
    assert one.labels == ["1", "2", "10"] and one.encode(["2", 10, 1.0]).tolist() == [1, 2, 0]
    assert one.decode(torch.eye(3)[one.encode(["2", "10"])]) == ["2", "10"]
    with pytest.raises(ValueError, match="'3'.*'1', '2', '10'"):
        one.encode(["3"])
    with pytest.raises(ValueError, match="accuracy, macro_f1, matthews"):
        task("single_label", main="f1").build(["a", "b", "c"])
    assert task("single_label", main="matthews").build(["a", "b"]).metrics().main == "matthews"


def test_label_sets_make_the_round_trip():
    several = task("multi_label", separator=";").build(["anger", "joy", "love"])
    raw = ["joy; love", "", ["anger"], None]
    assert several.names(raw) == ["anger", "joy", "love"]
    target = several.encode(raw)
    assert target.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert several.decode(target * 8 - 4) == [["joy", "love"], [], ["anger"], []]
    with pytest.raises(ValueError, match="'fear'.*'anger'"):
        several.encode(["fear"])


def test_numbers_make_the_round_trip():
    number = task("regression", mean=3.0, scale=2.0).build([])
    target = number.encode(["5", 1, 3.0])
    assert number.loss(torch.tensor([[1.0], [-1.0], [0.0]]), target).item() == 0
    assert number.decode(torch.tensor([[1.0], [-1.0]])) == [5.0, 1.0]
    for bad in ("x", None, float("inf")):
        with pytest.raises(ValueError, match="number"):
            number.encode([bad])


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_losses_equal_their_formulas_and_reach_every_logit(kind):
    rng = np.random.default_rng(6)
    labels = [] if kind == "regression" else ["a", "b", "c"]
    one = task(kind).build(labels)
    z = rng.normal(size=(5, one.outputs))
    raw = {"single_label": list("abcab"), "multi_label": ["a|b", "", "c", "b", "a"], "regression": [0.5, 1, 2, 3, 4]}[
        kind
    ]
    target = one.encode(raw)
    y = target.numpy().astype(np.float64)
    if kind == "single_label":
        expected = np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(5), y.astype(int)])
    elif kind == "multi_label":
        expected = np.mean(np.log1p(np.exp(z)) - y * z)
    else:
        expected = np.mean((z[:, 0] - y) ** 2)
    logits = torch.tensor(z, requires_grad=True)
    loss = one.loss(logits, target)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert (logits.grad != 0).all()


@pytest.mark.parametrize("kind", [k for k in metric.kinds() if not metric.load(k).lists])
def test_no_metric_depends_on_how_examples_were_batched(kind):
    rng = np.random.default_rng(7)
    real = kind in ("pearson", "spearman", "rmse", "mae", "r2")
    true, predicted = (rng.normal(size=64) if real else rng.integers(0, 2, 64) for _ in range(2))
    if kind == "columns":
        true, predicted = rng.normal(size=(64, 2)), rng.normal(size=(64, 2))
        true[::5, 0] = np.nan
    whole = metric(kind).build(2)
    whole.add(predicted, true)
    assert streamed(kind, 2, predicted, true) == pytest.approx(whole.value(), abs=1e-12)
    assert metric.load(kind).paper


def test_the_threshold_of_several_labels_is_chosen_where_it_pays():
    """Rare labels: no probability reaches a half, and yet they are in the right order."""
    rng = np.random.default_rng(0)
    truth = rng.random((300, 2)) < 0.15
    logits = torch.from_numpy(np.where(truth, -1.0, -3.0) + rng.normal(0, 0.3, truth.shape))
    raw = ["|".join(name for name, yes in zip("ab", row, strict=True) if yes) for row in truth]
    parts = [[row] for row in logits]
    several = task("multi_label", main="macro_f1").build(["a", "b"])
    plain = several.metrics()
    plain.add_read(several.read(parts), several.truth(raw))
    assert plain.value()["macro_f1"] == 0
    chosen = several.chosen(parts, raw)["threshold"]
    best = several.metrics()
    best.add_read(several.read(parts), several.truth(raw))
    assert 0.05 < chosen < 0.3 and best.value()["macro_f1"] > 0.95
    fixed = task("multi_label", threshold=0.5).build(["a", "b"])
    assert fixed.chosen(parts, raw) == {} and fixed.threshold == 0.5
