"""Baselines, features, folds and lists of errors: equal to scikit-learn or a hand computation, blind to test labels."""

import gzip
import inspect
import json

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.svm import LinearSVC, LinearSVR

from bertsmith.baseline import baseline, measure, run, shape_of
from bertsmith.beside import beside, usual
from bertsmith.errors import errors
from bertsmith.examples import Examples
from bertsmith.feature import feature
from bertsmith.folds import compare, cross_validate, folds, of_baseline
from bertsmith.frozen import Frozen
from bertsmith.hf.bert import bert_encoder
from bertsmith.model import Bundle, Model
from bertsmith.neighbours import columns, decide, ease, hard_weights, mix, nearest, soft, unit
from bertsmith.spec import Spec
from bertsmith.task import task as tasks
from bertsmith.tokenizer.load import load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "fine", "poor", *(f"w{i}" for i in range(12))]
DIC = "%\n1\tPosemo\n2\tNegemo\n3\tAffect\n%\ngood\t1\t3\nfine*\t1\t3\nbad\t2\t3\nnot good\t2\t3\nw1*\t3\nw1\t1\n"
SMALL = {
    "epochs": 2,
    "maps": 4,
    "dim": 8,
    "trees": 5,
    "widths": [2, 3],
    "ks": [3, 1],
    "temperatures": [0.1],
    "shares": [0.5, 0.1],
}
ONE = tasks("single_label").build(["0", "1", "2"])
SETS = tasks("multi_label").build(["x", "y"])
NUMBER = tasks("regression").build([])
TABLE = tasks("regressions").build(["a", "b"])
ASKED = {"classes": ONE, "sets": SETS, "numbers": NUMBER, "tables": TABLE}


torch.optim.Adadelta([torch.zeros(1)])  # the first optimiser imports for seconds: here, where no test is timed


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Frozen:
    """An encoder of one layer with large random weights."""
    path = tmp_path_factory.mktemp("encoder") / "vocab.txt"
    path.write_text("\n".join(WORDS))
    spec = bert_encoder(1, 16, 2, len(WORDS), hidden=32, length=32, dropout=0.0)
    model = Model(spec, Bundle(spec.build(), None), load_tokenizer(path))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=rng))
    return Frozen(model)


@pytest.fixture
def dic(tmp_path, monkeypatch):
    """The dictionary that the example of feature/dictionary names."""
    (tmp_path / "words.dic").write_text(DIC)
    monkeypatch.chdir(tmp_path)


def toy(count: int, seed: int, shape: str = "classes", pairs: bool = False) -> Examples:
    """Texts whose answer is which of three words they hold."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, count)
    texts = [
        " ".join(rng.permutation([*(f"w{i}" for i in rng.integers(0, 12, rng.integers(2, 6))), WORDS[5 + k]]))
        for k in kind
    ]
    said = {
        "classes": [0, 1, 2],
        "sets": [["x"], ["y"], ["x", "y"]],
        "numbers": [-1.0, 0.5, 2.0],
        "tables": [[-1, 3], [0.5, None], [2, 1]],
    }
    label = [said[shape][k] for k in kind]
    return Examples(texts, [f"w1 {WORDS[5 + k % 2]}" for k in kind] if pairs else None, label)


def small(room, kind: str) -> Spec:
    """A kind with its example and small settings."""
    slot = {"baseline": baseline, "feature": feature}[room]
    given = {name: value for name, value in SMALL.items() if name in slot.schema(kind)}
    example = vars(slot.load(kind)).get("example", {})
    return Spec.from_dict({"kind": f"{room}/{kind}"} | given | example)


def made(*rows: tuple[str, object]) -> Examples:
    return Examples([text for text, _ in rows], None, [label for _, label in rows])


# ---- every kind


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("shape", list(ASKED))
@pytest.mark.parametrize("kind", baseline.kinds())
def test_every_baseline_answers_or_says_that_it_cannot(kind, shape, pairs, frozen):
    task = ASKED[shape]
    train, valid, test = (toy(n, seed, shape, pairs) for n, seed in ((40, 0), (16, 1), (12, 2)))
    spec = small("baseline", kind)
    if shape not in baseline.load(kind).serves:
        with pytest.raises(ValueError, match=f"baseline/{kind} serves .*not {shape}"):
            spec.build(task, frozen).fit(train, valid)
        return
    fitted = spec.build(task, frozen).fit(train, valid)
    blind = Examples(test.text, test.pair, [None] * len(test))
    predicted, score = fitted.predict(blind), fitted.scores(blind)
    true = task.true(task.encode(test.label))
    assert predicted.shape == true.shape and shape_of(predicted) == shape_of(true) == shape
    assert score.shape == (12, len(task.labels) if shape in ("classes", "sets") else 0) and not np.isnan(score).any()
    if shape == "classes":
        np.testing.assert_allclose(score[np.arange(12), predicted], score.max(axis=1), atol=1e-9)
        if fitted.sums_to_one:
            np.testing.assert_allclose(score.sum(axis=1), 1, atol=1e-5)
    assert set(measure(task, predicted, test)) == set(task.metrics().metrics)
    assert json.loads(json.dumps(fitted.chosen)) == fitted.chosen
    again = spec.build(task, frozen).fit(train, valid)
    assert np.array_equal(again.predict(test), predicted) and again.chosen == fitted.chosen
    alone = spec.build(task, frozen).fit(train)
    assert alone.predict(test).shape == true.shape
    parts = [fitted.predict(test.take(rows)) for rows in ([0, 1, 2], list(range(3, 12)))]
    np.testing.assert_allclose(np.concatenate(parts).astype(float), predicted.astype(float), atol=1e-4)


@pytest.mark.parametrize("kind", feature.kinds())
def test_every_feature_is_a_row_a_text_fitted_on_training_alone(kind, frozen, dic):
    train, test = toy(30, 0), toy(9, 1)
    made = small("feature", kind).build(frozen).fit(train)
    x = made(test)
    plain = x.toarray() if sparse.issparse(x) else x
    assert plain.shape[0] == 9 and np.isfinite(plain).all() and plain.any()
    one = made(test.take([4]))
    np.testing.assert_allclose((one.toarray() if sparse.issparse(one) else one)[0], plain[4], atol=1e-5)
    pairs = Examples(test.text, test.text[::-1], test.label)
    a, b = plain, plain[::-1]
    both = made(pairs)
    wanted = np.hstack([abs(a - b), a * b, (a * b).sum(axis=1, keepdims=True)])
    np.testing.assert_allclose(both.toarray() if sparse.issparse(both) else both, wanted, atol=1e-5)


def test_what_is_no_one_answer_a_text_is_refused(frozen):
    class Tokens(type(ONE)):
        fields = {"target": "token"}

    with pytest.raises(ValueError, match="as a whole"):
        baseline("constant").build(Tokens(["0", "1", "2"]), None).fit(toy(9, 0))
    choices = Examples(["a", "b"], [["c", "d"], ["e", "f"]], ["0", "1"])
    with pytest.raises(ValueError, match="as a whole"):
        baseline("constant").build(ONE, None).fit(choices)
    with pytest.raises(ValueError, match="needs an encoder"):
        baseline("knn").build(ONE, None).fit(toy(9, 0))
    with pytest.raises(ValueError, match="needs an encoder"):
        baseline("encoder_cnn").build(ONE, None).fit(toy(9, 0))
    with pytest.raises(ValueError, match="cannot weigh"):
        baseline("gzip").build(ONE, None).fit(toy(9, 0), None, np.ones(9))
    with pytest.raises(ValueError, match="never negative.*gaussian_naive_bayes"):
        baseline("naive_bayes", features=feature("encoder")).build(ONE, frozen).fit(toy(9, 0))
    with pytest.raises(ValueError, match="dense features.*naive_bayes"):
        baseline("gaussian_naive_bayes", features=feature("tfidf")).build(ONE, None).fit(toy(9, 0))
    with pytest.raises(ValueError, match="svm has no probabilities"):
        baseline("knn_mix", classifier=baseline("svm")).build(ONE, frozen)


def test_settings_are_chosen_on_valid_and_the_first_of_equals_wins():
    train = toy(60, 0)
    valid = toy(20, 1)
    kind = baseline("linear", strengths=[1.0, 0.3])
    assert kind.build(ONE, None).fit(train, train).chosen == {"strength": 1.0}  # both get all right
    tried = {c: baseline("linear", strengths=[c]).build(ONE, None).fit(train).predict(valid) for c in (1e-4, 10.0)}
    assert not np.array_equal(tried[1e-4], tried[10.0])
    for best, other in ((1e-4, 10.0), (10.0, 1e-4)):
        truth = Examples(valid.text, None, tried[best].tolist())
        assert baseline("linear", strengths=[other, best]).build(ONE, None).fit(train, truth).chosen == {
            "strength": best
        }


# ---- equal to scikit-learn


ESTIMATORS = {
    "linear": (
        LogisticRegression(C=3.0, max_iter=1000),
        OneVsRestClassifier(LogisticRegression(C=3.0, max_iter=1000)),
        Ridge(alpha=1 / 3),
        {"strengths": [3.0]},
    ),
    "naive_bayes": (
        MultinomialNB(alpha=0.1),
        OneVsRestClassifier(MultinomialNB(alpha=0.1)),
        None,
        {"smoothing": [0.1]},
    ),
    "gaussian_naive_bayes": (
        GaussianNB(var_smoothing=1e-2),
        OneVsRestClassifier(GaussianNB(var_smoothing=1e-2)),
        None,
        {"smoothing": [1e-2]},
    ),
    "svm": (
        LinearSVC(C=0.5, max_iter=5000, random_state=0),
        OneVsRestClassifier(LinearSVC(C=0.5, max_iter=5000, random_state=0)),
        LinearSVR(C=0.5, loss="squared_epsilon_insensitive", dual="auto", max_iter=5000, random_state=0),
        {"strengths": [0.5]},
    ),
    "forest": (
        RandomForestClassifier(9, min_samples_leaf=2, random_state=4),
        RandomForestClassifier(9, min_samples_leaf=2, random_state=4),
        RandomForestRegressor(9, min_samples_leaf=2, random_state=4),
        {"leaves": [2], "trees": 9, "seed": 4},
    ),
}


SHAPES = ["classes", "sets", "numbers"]
SERVED = [
    (k, shape) for k, given in ESTIMATORS.items() for shape, one in zip(SHAPES, given, strict=False) if one is not None
]


@pytest.mark.parametrize(("kind", "shape"), SERVED)
def test_estimators_give_what_scikit_learn_gives(kind, shape, frozen):
    *estimators, settings = ESTIMATORS[kind]
    theirs = estimators[SHAPES.index(shape)]
    task = ASKED[shape]
    seen = feature("encoder") if kind == "gaussian_naive_bayes" else feature("tfidf")
    train, test = toy(50, 0, shape), toy(30, 1, shape)
    ours = baseline(kind, features=seen, **settings).build(task, frozen).fit(train, toy(9, 2, shape))
    features = seen.build(frozen).fit(train)
    y = task.true(task.encode(train.label))
    theirs.fit(features(train), y)
    np.testing.assert_allclose(ours.predict(test), theirs.predict(features(test)), atol=1e-9)
    if shape == "numbers":
        return
    scores = ours.scores(test)
    if kind == "svm":
        np.testing.assert_allclose(scores, theirs.decision_function(features(test)), atol=1e-9)
    elif kind == "forest" and shape == "sets":
        np.testing.assert_allclose(scores, np.stack([p[:, 1] for p in theirs.predict_proba(features(test))], 1))
    else:
        np.testing.assert_allclose(scores, theirs.predict_proba(features(test)), atol=1e-9)


def test_a_class_without_a_training_example_is_never_likely():
    train = toy(60, 0)
    rows = [i for i, label in enumerate(train.label) if label != 1]
    for kind, low in (("linear", 0.0), ("svm", -np.inf), ("forest", 0.0), ("naive_bayes", 0.0)):
        fitted = small("baseline", kind).build(ONE, None).fit(train.take(rows))
        score = fitted.scores(toy(9, 1))
        assert (score[:, 1] == low).all() and set(fitted.predict(toy(9, 1))) <= {0, 2}
    only = baseline("linear").build(ONE, None).fit(Examples(train.text, None, [2] * 60))
    assert (only.predict(train) == 2).all() and only.scores(train)[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_knn_is_scikit_learns_with_the_papers_weights(temperature, frozen):
    features = feature("encoder", normalize=True).build(frozen)
    train, test = toy(50, 0), toy(30, 1)
    ours = baseline("knn", ks=[7], temperatures=[temperature]).build(ONE, frozen).fit(train)
    weigh = lambda d: np.exp(-(d**2) / (2 * temperature))  # noqa: E731
    theirs = KNeighborsClassifier(7, weights=weigh, algorithm="brute")
    theirs.fit(features(train), ONE.true(ONE.encode(train.label)))
    np.testing.assert_allclose(ours.scores(test), theirs.predict_proba(features(test)), atol=1e-4)
    assert np.array_equal(ours.predict(test), theirs.predict(features(test)))
    number, asked = toy(50, 0, "numbers"), toy(30, 1, "numbers")
    ours = baseline("knn", ks=[7], temperatures=[temperature]).build(NUMBER, frozen).fit(number)
    theirs = KNeighborsRegressor(7, weights=weigh, algorithm="brute").fit(features(number), number.label)
    np.testing.assert_allclose(ours.predict(asked), theirs.predict(features(asked)), atol=1e-4)


def test_nearest_mean_is_scikit_learns_nearest_centroid(frozen):
    train, test = toy(50, 0), toy(40, 1)
    features = feature("encoder", normalize=True).build(frozen)
    theirs = NearestCentroid().fit(features(train), ONE.true(ONE.encode(train.label)))
    ours = baseline("nearest_mean").build(ONE, frozen).fit(train)
    assert np.array_equal(ours.predict(test), theirs.predict(features(test)))
    for name, mean in zip(("0", "1", "2"), theirs.centroids_, strict=True):
        np.testing.assert_allclose(ours.mean[name], mean, atol=1e-6)


def test_classes_are_added_to_the_means_at_any_time(frozen):
    train, test = toy(50, 0), toy(40, 1)
    first = train.take([i for i, label in enumerate(train.label) if label != 1])
    rest = train.take([i for i, label in enumerate(train.label) if label == 1])
    narrow = tasks("single_label").build(["0", "2"])
    kept = baseline("nearest_mean").build(narrow, frozen).fit(first)
    before = kept.predict(test)
    with pytest.raises(ValueError, match="no label '1'"):
        kept.add(rest)
    with pytest.raises(ValueError, match="lack '0'"):
        kept.add(rest, tasks("single_label").build(["1", "2"]))
    assert np.array_equal(kept.predict(test), before)
    for row in range(len(rest)):
        kept.add(rest.take([row]), ONE)
    whole = baseline("nearest_mean").build(ONE, frozen).fit(train)
    np.testing.assert_allclose(kept.scores(test), whole.scores(test), atol=1e-9)
    assert kept.count == whole.count


# ---- gzip


def test_the_compression_distance_is_that_of_gzip():
    train = made(*((text, 0) for text in toy(12, 0).text + ["", "a" * 5000]))
    test = toy(8, 1)
    ours = baseline("gzip", longest=6000).build(ONE, None).fit(train).distances(test)
    size = lambda text: len(gzip.compress(text.encode()))  # noqa: E731
    for i, x in enumerate(test.text):
        for j, y in enumerate(train.text):
            wanted = (size(x + " " + y) - min(size(x), size(y))) / max(size(x), size(y))
            assert ours[i, j] == pytest.approx(wanted)
    assert baseline("gzip", longest=9).build(ONE, None).fit(train).texts[0] == train.text[0].encode()[:9]


def test_a_tie_goes_to_the_nearest_and_never_to_the_truth():
    one = tasks("single_label").build(["a", "b", "c"])
    train = made(("the cat sat on the mat", "a"), ("the cat sat on a hat", "b"), ("0123456789 zyxwvut", "c"))
    fitted = baseline("gzip", ks=[2]).build(one, None).fit(train)
    for truth in "ab":
        asked = made(("the cat sat on the mat today", truth))
        assert fitted.predict(asked)[0] == 0  # the nearer one, whatever is true
        assert fitted.scores(asked)[0].tolist() == [0.5, 0.5, 0]
    y = np.array([2, 1, 1, 0, 0])
    index = np.array([[0, 1, 3, 2, 4], [3, 1, 2, 0, 4]])
    score = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
    assert decide(y, score, index).tolist() == [1, 0]


def test_gzip_holds_no_more_texts_than_it_is_told():
    train, test = toy(60, 0), toy(30, 2)
    few = baseline("gzip", memory=20).build(ONE, None).fit(train)
    assert len(few.texts) == 20 and few.chosen["held"] == 20 and few.distances(test).shape == (30, 20)
    turned = baseline("gzip", memory=20).build(ONE, None).fit(train.take(list(range(59, -1, -1))))
    assert set(turned.texts) == set(few.texts)  # drawn by the text, not by its place
    assert len(baseline("gzip", memory=0).build(ONE, None).fit(train).texts) == 60


def test_gzip_tells_topics_apart():
    rng = np.random.default_rng(0)
    topics = ["the striker scored a goal in the cup final", "shares fell as the bank raised interest rates"]
    texts = [(" ".join(rng.permutation(topics[i % 2].split())), str(i % 2)) for i in range(60)]
    two = tasks("single_label").build(["0", "1"])
    assert run(baseline("gzip"), two, made(*texts[:30]), made(*texts[30:40]), made(*texts[40:]))["accuracy"] > 0.9


# ---- neighbours and a classifier


def test_knn_and_classifier_are_mixed_as_in_the_paper(frozen):
    train, test = toy(50, 0), toy(30, 1)
    knn = baseline("knn", ks=[5], temperatures=[0.1]).build(ONE, frozen).fit(train)
    linear = baseline("linear", features=feature("tfidf")).build(ONE, frozen).fit(train)
    spec = baseline("knn_mix", ks=[5], temperatures=[0.1], shares=[0.3], classifier=baseline("linear"))
    both = spec.build(ONE, frozen).fit(train)
    wanted = 0.3 * knn.scores(test) + 0.7 * linear.scores(test)
    np.testing.assert_allclose(both.scores(test), wanted, atol=1e-12)
    assert np.array_equal(both.predict(test), wanted.argmax(axis=1))
    with pytest.raises(ValueError, match="do not mix"):
        mix(np.ones((2, 3)), np.ones((2, 2)), 0.5)
    # the share is chosen on valid: neighbours that vote at random get little of it
    noisy = toy(60, 3)
    spec = baseline("knn_mix", ks=[1], temperatures=[1.0], shares=[0.9, 0.1], classifier=baseline("linear"))
    chosen = spec.build(ONE, frozen).fit(train, noisy).chosen
    shares = {
        s: measure(ONE, baseline(spec.kind, **(spec.args | {"shares": [s]})).build(ONE, frozen).fit(train, noisy)
                   .predict(noisy), noisy)["accuracy"] for s in (0.9, 0.1)
    }  # fmt: skip
    assert shares[0.9] != shares[0.1] and chosen["share"] == max(shares, key=shares.get)


def test_easy_and_hard_examples_by_their_neighbours():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    x = unit(rng.normal(size=(40, 4)) * 0.1 + np.eye(4)[y])
    y[7] = 1  # among the others of class 0
    p = ease(x, y, k=5, temperature=0.1, labels=2)
    for i in range(40):
        cos = x @ x[i]
        cos[i] = -np.inf
        best = np.argsort(-cos)[:5]
        weight = np.exp(cos[best] / 0.1)
        assert p[i] == pytest.approx(weight[y[best] == y[i]].sum() / weight.sum())
    assert p.argmin() == 7 and p[7] < 0.05 and np.median(p) > 0.95
    np.testing.assert_allclose(hard_weights(np.array([1.0, 0.5, 0.0]), 2.0), [1, 1 + 2 * np.log(2), 201])


def test_hard_examples_weigh_more_in_the_classifier(frozen):
    train, test = toy(50, 0), toy(20, 1)
    fitted = baseline("knn_mix", hardness=1.0, ks=[5], temperatures=[0.1], shares=[0.5]).build(ONE, frozen).fit(train)
    features, y = feature("encoder").build(frozen), ONE.true(ONE.encode(train.label))
    weight = 1 - np.log(np.maximum(ease(unit(features(train)), y, 5, 0.1, 3), np.exp(-100)))
    theirs = LogisticRegression(C=0.3, max_iter=1000).fit(features(train), y, sample_weight=weight)
    np.testing.assert_allclose(fitted.classifier.scores(test), theirs.predict_proba(features(test)), atol=1e-6)
    assert abs(fitted.scores(test) - baseline("knn_mix", ks=[5], temperatures=[0.1], shares=[0.5]).build(
        ONE, frozen).fit(train).scores(test)).max() > 1e-3  # fmt: skip
    knn = baseline("knn", ks=[5], temperatures=[0.1]).build(ONE, frozen).fit(train)
    np.testing.assert_allclose(1 - np.log(np.maximum(knn.ease(), np.exp(-100))), weight, atol=1e-5)
    with pytest.raises(ValueError, match="one class each"):
        baseline("knn_mix", hardness=1.0).build(NUMBER, frozen).fit(toy(20, 0, "numbers"))


def test_nearest_is_exact_and_the_first_of_equals_comes_first():
    x = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]])
    index, similarity = nearest(x, x, 3)
    assert index.tolist() == [[0, 2, 3], [1, 0, 2], [0, 2, 3], [0, 2, 3]] and similarity[1].tolist() == [1, 0, 0]
    assert nearest(x, x, 9, alone=True)[0].tolist() == [[2, 3, 1], [0, 2, 3], [0, 3, 1], [0, 2, 1]]
    np.testing.assert_allclose(soft(np.array([[0.9, 0.5]]), 1e-4), [[1, 0]])
    with pytest.raises(ValueError, match="nothing to be a neighbour of"):
        nearest(x[:1], x[:1], 1, alone=True)


# ---- the memory


@pytest.fixture
def memory(frozen):
    return baseline("memory", ks=[5]).build(ONE, frozen).fit(toy(40, 0))


def test_neighbours_vote_by_rank(memory, frozen):
    test = toy(10, 1)
    x = unit(frozen.encode(toy(40, 0).text))
    y = np.array(toy(40, 0).label)
    for row, text in enumerate(test.text):
        best = np.argsort(-(x @ unit(frozen.encode([text]))[0]), kind="stable")[:5]
        wanted = np.zeros(3)
        np.add.at(wanted, y[best], 1 / (np.arange(5) + 2.0))
        np.testing.assert_allclose(memory.scores(test)[row], wanted / wanted.sum(), atol=1e-9)
        assert [one["id"] for one in memory.inspect(test)[row]] == best.tolist()


def test_deleted_is_as_never_held_and_added_is_as_always_held(memory, frozen):
    test, whole = toy(20, 1), toy(40, 0)
    before = memory.scores(test)
    gone = [3, 17, 18]
    memory.delete(gone)
    kept = whole.take([i for i in range(40) if i not in gone])
    fresh = baseline("memory", ks=[5]).build(ONE, frozen).fit(kept)
    assert len(memory) == 37 and not np.array_equal(memory.scores(test), before)
    np.testing.assert_allclose(memory.scores(test), fresh.scores(test), atol=1e-12)
    assert not set(gone) & {one["id"] for voters in memory.inspect(whole) for one in voters}
    with pytest.raises(KeyError, match="holds no example 3"):
        memory.delete([4, 3])
    assert memory.add(whole.take(gone)) == [40, 41, 42] and len(memory) == 40
    np.testing.assert_allclose(memory.scores(test), before, atol=1e-12)


def test_a_new_class_is_known_at_once(memory):
    wide = tasks("single_label").build(["0", "1", "2", "new"])
    asked = made(("poor w3", "new"))
    news = made(*((f"poor w{i}", "new") for i in range(6)))
    with pytest.raises(ValueError, match="no label 'new'"):
        memory.add(news)
    assert len(memory) == 40 and memory.scores(asked).shape == (1, 3)
    memory.add(news, wide)
    assert memory.task is wide and wide.labels[memory.predict(asked)[0]] == "new"
    explained = memory.inspect(asked)[0]
    assert explained[0] == explained[0] | {"text": "poor w3", "label": "new", "similarity": pytest.approx(1)}
    assert sum(one["weight"] for one in explained) == pytest.approx(1)


def test_pruning_finds_the_wrongly_labelled(frozen):
    rng = np.random.default_rng(0)
    texts = [(f"good good w{rng.integers(12)}", "0") for _ in range(15)]
    texts += [(f"bad bad w{rng.integers(12)}", "1") for _ in range(15)]
    wrong = [("good good w5", "1"), ("good good w6", "1")]
    two = tasks("single_label").build(["0", "1"])
    held = baseline("memory", ks=[5]).build(two, frozen).fit(made(*texts, *wrong))
    misled = held.misled()
    assert {max(misled, key=misled.get), sorted(misled, key=misled.get)[-2]} == {30, 31}
    x, y = unit(frozen.encode([t for t, _ in texts + wrong])), np.array([int(c) for _, c in texts + wrong])
    cos = x @ x.T - 9 * np.eye(32)
    near = np.argsort(-cos, axis=1, kind="stable")[:, :5]
    assert misled == {m: int(((near == m) & (y[near] != y[:, None])).sum()) for m in range(32)}
    held.soften()
    count = np.array(list(misled.values()))
    np.testing.assert_allclose(held.reliability_M, np.where(count > 0, 1.75 / (1 + count), 1))
    assert (
        held.inspect(made(("good good w5", "0")))[0][0]["weight"] < 0.2
    )  # the wrong one is nearest, and little trusted
    limit = min(misled[30], misled[31])
    assert set(held.prune(limit)) >= {30, 31} and not {30, 31} & set(held.ids_M.tolist())
    numbers = baseline("memory").build(NUMBER, frozen).fit(toy(10, 0, "numbers"))
    with pytest.raises(ValueError, match="not about numbers"):
        numbers.prune(1)


# ---- TextCNN


def cnn_by_hand(table, ids, net) -> np.ndarray:
    """The logits of one text, in loops."""
    found = []
    for weight, bias in zip(net.windows.weight, net.windows.bias, strict=True):
        F, D, h = weight.shape
        x = np.concatenate([np.zeros((h - 1, D)), table[ids].reshape(-1, D), np.zeros((h - 1, D))])
        best = np.zeros(F)
        for t in range(len(x) - h + 1 if len(ids) else 0):
            window = (weight.detach().numpy() * x[t : t + h].T[None]).sum(axis=(1, 2)) + bias.detach().numpy()
            best = np.maximum(best, window)  # ReLU and the largest over time
        found.append(best)
    return np.concatenate(found)


@pytest.mark.parametrize("pairs", [False, True])
def test_text_cnn_is_the_paper_in_loops(pairs):
    train, test = toy(30, 0, pairs=pairs), toy(6, 1, pairs=pairs)
    test.text[2] = "nothing that training knows"
    test.text[3] = "good"
    fitted = baseline("text_cnn", dim=7, maps=5, widths=[2, 4], epochs=2).build(ONE, None).fit(train)
    net, table = fitted.net, fitted.net.source.table.detach().numpy()
    with torch.no_grad():
        for bias in net.windows.bias:
            bias.add_(0.1)
        ours = net(fitted.places(test)).numpy()
        assert torch.allclose(
            net([[part[3]] for part in fitted.places(test)])[0], net(fitted.places(test))[3], atol=1e-5
        )
    for row in range(6):
        texts = [test.text[row], *([test.pair[row]] if pairs else [])]
        seen = [
            cnn_by_hand(table, [fitted.number[w] for w in text.split() if w in fitted.number], net) for text in texts
        ]
        y = np.concatenate([*seen, abs(seen[0] - seen[1]), seen[0] * seen[1]]) if pairs else seen[0]
        np.testing.assert_allclose(ours[row], net.weight.detach().numpy() @ y + net.bias.detach().numpy(), atol=1e-4)


def test_the_last_layer_stays_within_its_norm_and_static_vectors_stay():
    train = toy(40, 0)
    start = baseline("text_cnn", dim=8, maps=4, epochs=1, norm=0.1, static=True).build(ONE, None)
    fitted = start.fit(train)
    assert (fitted.net.weight.detach().norm(dim=1) <= 0.1 + 1e-6).all()
    again = baseline("text_cnn", dim=8, maps=4, epochs=3, static=True).build(ONE, None).fit(train)
    assert torch.equal(fitted.net.source.table, again.net.source.table)
    moved = baseline("text_cnn", dim=8, maps=4, epochs=3).build(ONE, None).fit(train)
    assert not torch.equal(moved.net.source.table, again.net.source.table)


def test_the_epoch_that_is_best_on_valid_is_kept():
    train, asked = toy(40, 0), toy(40, 1)
    spec = baseline("text_cnn", dim=8, maps=4, epochs=4)
    after = [baseline("text_cnn", dim=8, maps=4, epochs=n).build(ONE, None).fit(train) for n in (1, 2, 3, 4)]
    said = [one.predict(asked) for one in after]
    assert not np.array_equal(said[1], said[3])
    valid = Examples(asked.text, None, said[1].tolist())
    first = next(n for n, one in enumerate(said) if np.array_equal(one, said[1]))
    fitted = spec.build(ONE, None).fit(train, valid)
    assert fitted.chosen == {"epoch": first + 1}
    np.testing.assert_allclose(fitted.scores(asked), after[first].scores(asked), atol=1e-6)


def test_text_cnn_reads_the_order_of_words_which_tfidf_of_words_cannot():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(160):
        noise = [f"w{n}" for n in rng.integers(0, 12, 4)]
        at = int(rng.integers(0, 5))
        rows.append(
            (" ".join([*noise[:at], *(("good", "bad") if i % 2 else ("bad", "good")), *noise[at:]]), str(i % 2))
        )
    two = tasks("single_label").build(["0", "1"])
    train, valid, test = made(*rows[:100]), made(*rows[100:120]), made(*rows[120:])
    ours = run(baseline("text_cnn", dim=16, maps=8, widths=[2, 3], epochs=12, batch=10), two, train, valid, test)
    bag = run(baseline("linear", features=feature("tfidf", ngrams=1)), two, train, valid, test)
    assert ours["accuracy"] > 0.9 and bag["accuracy"] < 0.7 and 1 <= ours["epoch"] <= 12


def test_vectors_of_words_are_read_from_a_file(tmp_path):
    train = toy(20, 0)
    (tmp_path / "vectors.txt").write_text("3 2\ngood 1.5 -2\nw1 0 1\nabsent 3 3\n")
    spec = baseline("text_cnn", vectors=str(tmp_path / "vectors.txt"), static=True, maps=3, epochs=1)
    fitted = spec.build(ONE, None).fit(train)
    table = fitted.net.source.table
    assert table.shape[1] == 2 and table[fitted.number["good"]].tolist() == [1.5, -2]
    assert table[fitted.number["w2"]].abs().max() <= 0.25
    (tmp_path / "vectors.txt").write_text("good 1.5 -2\nw1 0 1 2\n")
    with pytest.raises(ValueError, match="line 2: 3 numbers"):
        spec.build(ONE, None).fit(train)
    (tmp_path / "vectors.txt").write_text("absent 1.5 -2\n")
    with pytest.raises(ValueError, match="none of the"):
        spec.build(ONE, None).fit(train)


def test_encoder_cnn_reads_the_frozen_states(frozen):
    train, test = toy(30, 0), toy(8, 1)
    fitted = baseline("encoder_cnn", maps=5, widths=[2, 3], epochs=2).build(ONE, frozen).fit(train)
    states = frozen.states(test.text)
    whole = frozen.model.encode(test.text, "mean", precision="exact")
    np.testing.assert_allclose(np.stack([s.astype(np.float32).mean(axis=0) for s in states]), whole, atol=3e-3)
    with torch.no_grad():
        ours = fitted.net([states]).numpy()
    for row, x in enumerate(states):
        y = cnn_by_hand(x.astype(np.float64), list(range(len(x))), fitted.net)
        wanted = fitted.net.weight.detach().numpy() @ y + fitted.net.bias.detach().numpy()
        np.testing.assert_allclose(ours[row], wanted, atol=1e-4)
    assert not any(p.grad is not None for p in frozen.model.encoder.parameters())
    assert len(frozen.states(["good", "bad w1"], ["w2 w3", "w4"])[0]) == 6  # a pair is read as one


# ---- features


def test_a_dictionary_counts_as_by_hand(dic):
    plain = feature("dictionary", path="words.dic").build(None)
    assert plain.categories == ["Posemo", "Negemo", "Affect"]
    # w1 by its own entry, w10 by w1*; "not good" as one entry of two words; "unknown" in none
    share = plain.shares("Not good, w10 W1 finest unknown bad")
    np.testing.assert_allclose(share, np.array([2, 3, 5, 6]) / 7)
    assert plain.shares("").tolist() == [0, 0, 0, 0]
    train = toy(20, 0)
    fitted = feature("dictionary", path="words.dic").build(None).fit(train)
    x = fitted(train)
    raw = np.stack([plain.shares(text) for text in train.text])
    keep = raw.std(axis=0) > 0
    np.testing.assert_allclose(x[:, keep], ((raw - raw.mean(0)) / np.where(keep, raw.std(0), 1))[:, keep] / 2)
    both = feature("concat", parts=[feature("dictionary", path="words.dic"), feature("tfidf")]).build(None).fit(train)
    tfidf = feature("tfidf").build(None).fit(train)
    np.testing.assert_allclose(both(train).toarray(), np.hstack([x, tfidf(train).toarray()]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("good\t1\n", "two lines of %"),
        ("%\n1 A\n%\ngood\t2\n", "line 4: 'good' is in '2', which is no category; there are: 1"),
        ("%\n1 A\n2 B\n%\nlike\t(02 1)2/1\n", "no category|conditions"),
        ("%\n1 A\n%\n\n", "no word"),
        ("%\nA\n%\ngood\t1\n", "a number and a name"),
    ],
)
def test_a_dictionary_that_does_not_serve_is_named(tmp_path, text, says):
    (tmp_path / "bad.dic").write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        feature("dictionary", path=str(tmp_path / "bad.dic")).build(None)
    assert "bad.dic" in str(error.value)


def test_a_frozen_encoder_is_asked_once_for_a_text(frozen, monkeypatch):
    own, asked = Frozen(frozen.model), []
    real = frozen.model.encode
    monkeypatch.setattr(frozen.model, "encode", lambda texts, *more: asked.append(list(texts)) or real(texts, *more))
    x = own.encode(["good", "bad w1", "good"])
    assert own.encode(["bad w1"]).tolist() == x[1:2].tolist() and asked == [["good", "bad w1"]]
    np.testing.assert_allclose(own.encode(["good"], normalize=True), real(["good"], normalize=True), atol=1e-6)
    own.encode(["good"], "first")
    assert len(asked) == 2 and x.dtype == np.float32
    np.testing.assert_allclose(x, real(["good", "bad w1", "good"]), atol=1e-6)


def test_a_probe_of_a_frozen_encoder_beats_the_constant(frozen):
    train, valid, test = toy(150, 0), toy(50, 1), toy(100, 2)
    for kind in ("linear", "svm", "forest"):
        found = run(baseline(kind, features=feature("encoder")), ONE, train, valid, test, frozen)
        assert found["accuracy"] > 0.6, kind


# ---- folds


def test_folds_are_a_partition_that_keeps_equal_texts_and_classes_together():
    texts = [f"text {i % 50}" for i in range(90)]
    classes = [str(int(i % 50 < 10)) for i in range(90)]
    parts = folds(texts, classes, 5, seed=3)
    assert sorted(i for part in parts for i in part) == list(range(90))
    where = [{texts[i] for i in part} for part in parts]
    assert all(not a & b for n, a in enumerate(where) for b in where[:n])
    assert [len(x) for x in where] == [10] * 5
    assert [sum(classes[texts.index(t)] == "1" for t in x) for x in where] == [2] * 5
    turned = folds(texts[::-1], classes[::-1], 5, seed=3)
    assert sorted(map(sorted, ([{texts[::-1][i] for i in p} for p in turned]))) == sorted(map(sorted, where))
    assert folds(texts, classes, 5, seed=4) != parts
    with pytest.raises(ValueError, match="51 folds of 50 different texts"):
        folds(texts, None, 51)
    with pytest.raises(ValueError, match="1 folds"):
        folds(texts, None, 1)


def test_cross_validation_tests_every_example_once_and_chooses_apart_from_it():
    examples, seen = toy(60, 0), []

    def score(train, valid, test):
        sets = [set(zip(x.text, x.label, strict=True)) for x in (train, valid, test)]
        assert not sets[0] & sets[2] and not sets[1] & sets[2] and not sets[0] & sets[1]
        seen.extend(test.text)
        return {"accuracy": sum(map(len, test.text)) / 1000, "none": None}

    found = cross_validate(examples, score, k=4, classes=[str(x) for x in examples.label])
    assert sorted(seen) == sorted(examples.text) and sum(found["sizes"]) == 60
    values = [fold["accuracy"] for fold in found["folds"]]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found["mean"]["accuracy"] == {"mean": pytest.approx(np.mean(values)), "low": pytest.approx(low),
                                         "high": pytest.approx(high), "n": 4}  # fmt: skip
    assert found["mean"]["none"]["mean"] is None
    cross_validate(examples, lambda train, valid, test: {"a": float(valid is None)}, k=2, share=0.0)


def test_baselines_are_compared_on_the_same_folds(dic):
    examples = toy(60, 0)
    specs = {
        "constant": baseline("constant"),
        "tfidf": baseline("linear"),
        "dictionary": baseline("linear", features=feature("dictionary", path="words.dic")),
        "both": baseline(
            "linear", features=feature("concat", parts=[feature("tfidf"), feature("dictionary", path="words.dic")])
        ),
    }
    scores = {name: of_baseline(spec, ONE) for name, spec in specs.items()}
    found = compare(examples, scores, "accuracy", k=3, classes=[str(x) for x in examples.label])
    assert found["constant"]["gain"]["mean"] == 0 and len({str(x["sizes"]) for x in found.values()}) == 1
    for name in ("tfidf", "dictionary", "both"):
        gains = [a["accuracy"] - b["accuracy"] for a, b in
                 zip(found[name]["folds"], found["constant"]["folds"], strict=True)]  # fmt: skip
        assert found[name]["gain"]["mean"] == pytest.approx(np.mean(gains)) and np.mean(gains) > 0.2
    alone = cross_validate(examples, scores["tfidf"], k=3, classes=[str(x) for x in examples.label])
    assert alone["folds"] == found["tfidf"]["folds"]


def test_a_word_gets_its_commonest_tag():
    """By hand: what was seen most; small letters; and for the rest what words seen once most often are."""

    def tagged(*rows):
        texts, words, spans = [], [], []
        for row in rows:
            at, here = 0, []
            for word, tag in row:
                here.append((at, at + len(word), tag))
                at += len(word) + 1
            texts.append(" ".join(word for word, _ in row))
            words.append([(a, b, "") for a, b, _ in here])
            spans.append([span for span in here if span[2]])
        return Examples(texts, words, spans)

    train = tagged(
        [("the", "DET"), ("can", "NOUN"), ("can", "VERB"), ("fall", "VERB")],
        [("they", "PRON"), ("can", "VERB"), ("run", "VERB"), ("Run", "NOUN")],
    )
    test = tagged([("The", "DET"), ("can", "NOUN"), ("xyz", "VERB"), ("Run", "NOUN")])
    words = tasks("tagging", scheme="word").build(["DET", "NOUN", "PRON", "VERB"])
    fitted = baseline("word_tags").build(words, None).fit(train)
    assert [span.label for span in fitted.predict(test)[0]] == ["DET", "VERB", "VERB", "NOUN"]
    assert fitted.scores(test).shape == (1, 0)
    said: list[str] = []
    also = lambda spans: {"spans": float(sum(map(len, spans)))}  # noqa: E731
    found = beside(usual(frozen=False), words, train, None, test, None, said.append, also)
    assert list(found) == ["word_tags"] and said == []  # those that answer for a text are not even named
    assert found["word_tags"] == {"span_f1": 0.75, "precision": 0.75, "recall": 0.75, "spans": 4.0}
    names = tagged([("New", "PLACE"), ("York", "PLACE"), ("is", ""), ("big", ""), ("is", "")])
    names.label[0] = [(0, 8, "PLACE")]
    spans = baseline("word_tags").build(tasks("tagging").build(["PLACE"]), None).fit(names).predict(names)
    assert [(s.start, s.end, s.label) for s in spans[0]] == [(0, 8, "PLACE")]
    with pytest.raises(ValueError, match="serves classes and sets and numbers and tables, not spans"):
        baseline("linear").build(words, None).fit(train)


def test_all_that_can_do_a_task_stand_beside_a_run(frozen):
    specs = {name: small("baseline", spec.kind) if "cnn" in name else spec for name, spec in usual().items()}
    train, valid, test = (toy(n, seed, "numbers") for n, seed in ((40, 0), (16, 1), (12, 2)))
    said: list[str] = []
    found = beside(specs, NUMBER, train, valid, test, frozen, said.append)
    assert set(specs) - set(found) == {"naive_bayes", "nearest_mean", "word_tags"}
    assert (
        len(said) == 2 and "no baseline naive_bayes: baseline/naive_bayes serves classes and sets, not numbers" in said
    )
    assert found["tfidf"] == run(baseline("linear"), NUMBER, train, valid, test)
    assert (
        set(usual(frozen=False))
        == {*("tfidf", "naive_bayes", "svm", "forest", "gzip", "text_cnn", "word_tags")}
        < set(specs)
    )
    choices = Examples(test.text, [["a", "b"]] * 12, [0] * 12)
    assert beside(specs, NUMBER, choices, None, choices, frozen, said.append) == {} and "as a whole" in said[-1]


# ---- errors


def test_errors_are_listed_those_most_sure_first():
    asked = made(("a", "0"), ("b", "1"), ("c", "2"), ("d", "1"))
    score = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.0, 0.4, 0.6]])
    found = errors(ONE, asked, score.argmax(axis=1), score)
    assert [(e["row"], e["text"], e["true"], e["predicted"], e["score"]) for e in found] == [
        (2, "c", "2", "0", 0.9),
        (0, "a", "0", "1", 0.7),
        (3, "d", "1", "2", 0.6),
    ]
    assert (
        json.loads(json.dumps(found)) == found and errors(ONE, asked, score.argmax(axis=1), score, most=1) == found[:1]
    )
    assert [e["row"] for e in errors(ONE, asked, score.argmax(axis=1))] == [0, 2, 3]
    sets = Examples(["a", "b", "c"], ["p", "q", "r"], [["x"], ["x", "y"], ["y"]])
    score = np.array([[0.9, 0.8], [0.4, 0.9], [0.1, 0.6]])
    found = errors(SETS, sets, score > 0.5, score)
    assert [(e["row"], e["pair"], e["true"], e["predicted"], e["score"]) for e in found] == [
        (0, "p", ["x"], ["x", "y"], 0.8),
        (1, "q", ["x", "y"], ["y"], 0.6),
    ]
    far = errors(NUMBER, made(("a", 1.0), ("b", 2.0), ("c", 3.0)), np.array([1.5, 2.0, 0.0]))
    assert [(e["row"], e["true"], e["predicted"], e["score"]) for e in far] == [(2, 3, 0, 3), (0, 1, 1.5, 0.5)]
    with pytest.raises(ValueError, match=r"predictions of \[3\]"):
        errors(ONE, asked, np.zeros(3, int))


def test_the_misclassified_of_a_baseline(frozen):
    train, test = toy(40, 0), toy(30, 1)
    test.label[4] = (test.label[4] + 1) % 3
    fitted = baseline("linear", features=feature("tfidf")).build(ONE, frozen).fit(train)
    found = errors(ONE, test, *fitted.answer(test))
    wrong = [i for i, (p, t) in enumerate(zip(fitted.predict(test), test.label, strict=True)) if p != t]
    assert sorted(e["row"] for e in found) == wrong and 4 in wrong
    assert [e["score"] for e in found] == sorted((e["score"] for e in found), reverse=True)


def test_methods_have_no_setting_without_a_default_but_in_their_example():
    for slot in (baseline, feature):
        for kind in slot.kinds():
            needed = {n for n, p in slot.schema(kind).items() if p.default is inspect.Parameter.empty}
            assert needed <= set(vars(slot.load(kind)).get("example", {}))


def test_missing_numbers_of_a_table_are_left_out():
    train, test = toy(60, 0, "tables"), toy(20, 1, "tables")
    ours = baseline("linear", strengths=[2.0]).build(TABLE, None).fit(train).predict(test)
    x, y = feature("tfidf").build(None).fit(train), TABLE.true(TABLE.encode(train.label))
    assert np.isnan(y).any() and not np.isnan(ours).any()
    for k in range(2):
        there = ~np.isnan(y[:, k])
        theirs = Ridge(alpha=0.5).fit(x(train)[there], y[there, k])
        np.testing.assert_allclose(ours[:, k], theirs.predict(x(test)), atol=1e-9)
    held = columns(np.array([[1.0, np.nan], [3.0, 4.0], [np.nan, 6.0]]), 2)
    assert held.tolist() == [[1, 5], [3, 4], [2, 6]]
    asked = made(("u", [1, 2]), ("v", [3, None]), ("w", [5, 6]))
    found = errors(TABLE, asked, np.array([[1.0, 3.0], [6.0, 0.0], [5.0, 6.0]]))
    assert [(e["row"], e["true"], e["predicted"], e["score"]) for e in found] == [
        (1, [3, None], [6, 0], 3),
        (0, [1, 2], [1, 3], 0.5),
    ]
    none = Examples(train.text, None, [[1.0, None]] * 60)
    assert (baseline("linear").build(TABLE, None).fit(none).predict(test)[:, 1] == 0).all()


@pytest.mark.parametrize("kind", ["linear", "knn", "text_cnn", "gzip"])
def test_orders_and_trees_of_labels_are_served(kind, frozen):
    ordered = tasks("ordinal").build(["0", "1", "2"])
    tree = tasks("hierarchy").build(["a", "a > b", "c"])
    train, test = toy(60, 0), toy(20, 1)
    paths = ["a", "a > b", "c"]
    for task, say in ((ordered, str), (tree, paths.__getitem__)):
        given = [Examples(x.text, None, [say(k) for k in x.label]) for x in (train, test)]
        fitted = small("baseline", kind).build(task, frozen).fit(given[0], given[1])
        found = measure(task, fitted.predict(given[1]), given[1])
        assert None not in found.values() and fitted.scores(given[1]).shape == (20, 3)
