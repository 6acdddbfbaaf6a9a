"""Fine-tuning end to end on tiny tables: what it learns, reports, never touches, and that it resumes."""

import json
import math
import shutil
from dataclasses import dataclass

import numpy as np
import pandas
import pytest
import torch
from scipy import stats
from sklearn.utils.class_weight import compute_class_weight

import bertsmith
from bertsmith.coding import Row
from bertsmith.data import data
from bertsmith.data.table import write_rows
from bertsmith.evaluate import evaluate
from bertsmith.examples import take_examples
from bertsmith.hf.bert import bert_encoder
from bertsmith.interval import t_interval
from bertsmith.linear import tensors
from bertsmith.model import Bundle, Model
from bertsmith.schedule import schedule
from bertsmith.split import cut
from bertsmith.table import read_table
from bertsmith.task import task
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tuning import finetune

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "good",
    "bad",
    "film",
    "the",
    "is",
    *(f"w{i}" for i in range(20)),
]
LEARN = {"epochs": 4, "lr": 1e-2, "batch": 16, "max_length": 16, "progress": False}
FAST = {"epochs": 2, "lr": 3e-3, "batch": 16, "max_length": 16, "progress": False}


@pytest.fixture
def model(tmp_path) -> Model:
    """An encoder of one layer with random weights."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    spec = bert_encoder(1, 32, 2, len(WORDS), hidden=64, length=32, dropout=0.0)
    return Model(spec, Bundle(spec.build(), None), load_tokenizer(tmp_path / "vocab.txt"))


def rows(count: int, seed: int = 0) -> pandas.DataFrame:
    """Texts of different lengths with "good" or "bad" somewhere in them."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        words = [f"w{i}" for i in rng.integers(0, 20, rng.integers(2, 8))]
        good = bool(rng.integers(0, 2))
        words.insert(int(rng.integers(0, len(words))), "good" if good else "bad")
        out.append({"text": " ".join(words), "label": "positive" if good else "negative"})
    return pandas.DataFrame(out)


def test_it_learns_reports_saves_and_leaves_the_given_model_alone(model, tmp_path):
    before = {k: v.clone() for k, v in tensors(model.bundle).items()}
    tuned = finetune(model, rows(300), out=tmp_path / "out", seeds=2, **LEARN)
    assert model.head is None and all(torch.equal(v, before[k]) for k, v in tensors(model.bundle).items())
    report = tuned.report
    assert (
        tuned.labels == ["negative", "positive"]
        and report["test"]["accuracy"]["mean"] > 0.9
        and report["degenerate"] == []
    )
    assert (
        report["splits"]["test"] == 30 and report["splits"]["valid"] == 30 and "stratified" in report["splits"]["made"]
    )
    assert (
        len(report["seeds"]) == 2
        and report["test"]["accuracy"]["n"] == 2
        and report["baselines"]["tfidf"]["accuracy"] > 0.9
    )
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report)) == report
    assert not (tmp_path / "out.work").exists()
    assert [p.label for p in tuned.predict(["the film is good", "the film is bad"])] == ["positive", "negative"]
    back = bertsmith.load(tmp_path / "out")
    assert back.labels == tuned.labels and back.report["seeds"] == report["seeds"]
    fresh = rows(60, seed=9)
    assert evaluate(back, fresh, say=lambda line: None) == evaluate(tuned, fresh, say=lambda line: None)


def test_columns_task_and_splits_are_said(model):
    said: list[str] = []
    finetune(model, rows(40), baselines=False, say=said.append, **FAST | {"progress": True, "epochs": 1})
    text = "\n".join(said)
    for what in (
        "text='text', label='label'",
        "single_label",
        "cut from the table by a hash",
        "32 train, 4 valid, 4 test",
        "majority",
    ):
        assert what in text


def test_the_reported_split_chooses_nothing(model):
    """With other test labels, every weight and every choice is the same."""
    train, valid, test = rows(64), rows(32, 1), rows(32, 2)
    flipped = test.assign(label=["negative" if x == "positive" else "positive" for x in test.label])
    a = finetune(model, train, valid=valid, test=test, **FAST)
    b = finetune(model, train, valid=valid, test=flipped, **FAST)
    for x, y in zip(a.report["seeds"], b.report["seeds"], strict=True):
        assert (x["epochs"], x["chosen_epoch"]) == (y["epochs"], y["chosen_epoch"])
        best = max(range(FAST["epochs"]), key=lambda e: (x["epochs"][e]["accuracy"], -e))
        assert x["chosen_epoch"] == best + 1
    assert all(torch.equal(v, tensors(b.bundle)[k]) for k, v in tensors(a.bundle).items())
    assert a.report["test"]["accuracy"]["mean"] + b.report["test"]["accuracy"]["mean"] == pytest.approx(1)


def test_pairs_and_regression(model, tmp_path):
    frame = rows(200)
    pairs = pandas.DataFrame(
        {"sentence1": frame.text, "sentence2": "w1", "score": [3.25 if x == "positive" else -50 for x in frame.label]}
    )
    tuned = finetune(model, pairs, **LEARN)
    assert tuned.task.kind == "regression" and tuned.report["test"]["pearson"]["mean"] > 0.9
    assert tuned.report["test"]["rmse"]["mean"] < tuned.report["baselines"]["majority"]["rmse"]
    good, bad = tuned.predict(["w1 good w2", "w3 bad w4"], ["w1", "w1"])
    assert good.label > bad.label + 10 and tuned.task.args["scale"] == 1.0
    tuned.save(tmp_path / "out")
    assert bertsmith.load(tmp_path / "out").predict("w1 good w2", "w1").label == pytest.approx(good.label, abs=1e-4)


def test_several_labels(model, tmp_path):
    frame = rows(200)
    frame["label"] = [
        ("good|long" if y == "positive" else "") if len(x.split()) > 4 else "good" * (y == "positive")
        for x, y in frame.values
    ]
    tuned = finetune(model, frame, **LEARN | {"epochs": 6})
    assert tuned.task.kind == "multi_label" and tuned.labels == ["good", "long"]
    assert tuned.report["test"]["micro_f1"]["mean"] > 0.8 and tuned.report["degenerate"] == []
    tuned.save(tmp_path)
    assert 0 < bertsmith.load(tmp_path).task.args["threshold"] < 1  # chosen on the validation split, and kept


def test_a_run_that_learns_nothing_is_named_degenerate(model):
    frame = rows(80).assign(label=lambda f: ["a" if i % 4 else "b" for i in range(len(f))])
    tuned = finetune(model, frame, baselines=False, **FAST | {"lr": 1e-9, "epochs": 1})
    assert tuned.report["degenerate"] == [0] and tuned.report["seeds"][0]["degenerate"]


def test_a_class_with_one_example_is_learnt_and_said_not_to_be_measured(model):
    frame = pandas.concat([rows(40), pandas.DataFrame([{"text": "w1 w2 w3", "label": "odd"}])])
    tuned = finetune(model, frame, baselines=False, **FAST)
    assert tuned.labels == ["negative", "odd", "positive"]
    assert "labels that no test text has, learnt and not measured: 'odd'" in tuned.report["said"]
    tuned = finetune(model, rows(40), baselines=False, **FAST)
    assert not any("not measured" in line for line in tuned.report["said"])


@pytest.mark.parametrize("long", ["head", "tail", "head+tail"])
def test_a_text_of_100_000_tokens_is_cut_and_counted(model, long):
    frame = rows(60)
    frame.loc[0, "text"] = " ".join(f"w{i % 20}" for i in range(100_000))
    splits = {"valid": rows(8, 1), "test": rows(8, 2)}
    tuned = finetune(model, frame, long=long, baselines=False, **splits, **FAST | {"epochs": 1})
    said = f"1 of 60 training texts are longer than max_length=16 and are cut (the {long} is kept, 99."
    assert [line for line in tuned.report["said"] if line.startswith(said)], tuned.report["said"]
    alone = tuned.predict(frame.text[0])
    assert tuned.cut == 1 and alone.label in tuned.labels
    with pytest.raises(ValueError, match="text 0 has 100002 tokens, more than 32: cut it, or on_long='truncate'"):
        tuned.predict(frame.text[0], on_long="error")


def test_a_run_without_better_epochs_ends_early(model, capsys):
    tuned = finetune(
        model, rows(64), baselines=False, patience=2, **LEARN | {"lr": 1e-9, "epochs": 6, "progress": True}
    )
    seed = tuned.report["seeds"][0]
    assert len(seed["epochs"]) == 3 and seed["chosen_epoch"] == 1 and tuned.report["settings"]["patience"] == 2
    assert "seed 0: no epoch since 1 was better; it ends before 3 more" in tuned.report["said"]
    with pytest.raises(ValueError, match="patience 0 or more; got 1, 4, 16, -1"):
        finetune(model, rows(64), patience=-1, **LEARN)


def test_weights_of_labels_are_scikit_learns_and_the_formulas(tmp_path):
    raw = ["a"] * 6 + ["b"] * 3 + ["c"]
    weights = task("single_label", weights="balanced").build([]).settled(raw)["weights"]
    want = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=raw)
    assert list(weights.values()) == pytest.approx(want.tolist())
    logits, y = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0] * 6 + [1] * 3 + [2])
    z = logits.double().numpy()
    nll = np.log(np.exp(z).sum(1)) - z[np.arange(10), y]
    loss = task("single_label", weights=weights).build(["a", "b", "c"]).loss(logits, y)
    assert loss.item() == pytest.approx((want[y] * nll).sum() / want[y].sum(), rel=1e-5)
    assert task("single_label").build(["a", "b", "c"]).loss(logits, y).item() == pytest.approx(nll.mean(), rel=1e-5)

    sets = ["a", "a|b", "", "", "a", "", "", ""]
    weights = task("multi_label", weights="balanced").build([]).settled(sets)["weights"]
    assert weights == {"a": 5 / 3, "b": 7.0}
    aim = task("multi_label", weights=weights).build(["a", "b", "c"])
    z, y, w = logits[:8].double().numpy(), aim.encode(sets), np.array([5 / 3, 7, 1])
    p = 1 / (1 + np.exp(-z))
    one = -np.where(y.numpy() > 0, w * np.log(p), np.log(1 - p))
    assert aim.loss(logits[:8], y).item() == pytest.approx(one.mean(), rel=1e-5)
    start = [math.log((n + 0.5) / (8 - n + 0.5)) + math.log(f) for n, f in zip((3, 1, 0), w, strict=True)]
    assert aim.starts(sets).tolist() == pytest.approx(start, rel=1e-5)

    with pytest.raises(ValueError, match="weights of 'd'; there are: 'a', 'b', 'c'"):
        task("single_label", weights={"d": 2.0}).build(["a", "b", "c"])
    with pytest.raises(ValueError, match="weights are above 0; got {'a': 0}"):
        task("multi_label", weights={"a": 0}).build(["a"])
    with pytest.raises(ValueError, match="'balanced', which `finetune` turns into numbers"):
        task("single_label", weights="equal").build([])


def test_with_weights_a_rare_label_is_as_likely_as_the_others(model):
    """Labels that no text tells: without weights the answer is the commonest, with them neither."""
    frame = rows(400).assign(label=["rare" if i % 5 == 0 else "common" for i in range(400)])
    mean = []
    for weights in ({}, "balanced"):
        aim = task("single_label", weights=weights)
        tuned = finetune(model, frame, baselines=False, task=aim, **LEARN)
        mean.append(np.mean([p.scores["rare"] for p in tuned.predict(list(rows(200, 5).text))]))
    assert mean[0] < 0.3 and 0.35 < mean[1] < 0.65, mean
    assert tuned.task.args["weights"] == {"common": pytest.approx(0.625, rel=0.1), "rare": pytest.approx(2.5, rel=0.1)}


def test_a_killed_call_goes_on_to_the_same_numbers(model, tmp_path, monkeypatch):
    frame, calls = rows(64), []
    whole = finetune(model, frame, out=tmp_path / "whole", seeds=2, **FAST)
    module = __import__("bertsmith.tuning", fromlist=["x"])
    real = module.train

    def dies(*args, **settings):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr(module, "train", dies)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetune(model, frame, out="cut", seeds=2, **FAST)  # below, the same folder is said in full
    before = len(calls)
    other = finetune(model, rows(64, 5), out=tmp_path / "other", **FAST)
    shutil.copytree(tmp_path / "cut.work", tmp_path / "taken.work")
    taken = finetune(
        model, rows(64, 5), out=tmp_path / "taken", **FAST
    )  # another table: nothing of the old call is used
    assert taken.report["seeds"] == other.report["seeds"] and any(
        "interrupted" in line for line in taken.report["said"]
    )
    del calls[before:]
    again = finetune(model, frame, out=tmp_path / "cut", seeds=2, **FAST)
    assert len(calls) == 6  # seed 0 is not trained again
    assert again.report["seeds"] == whole.report["seeds"]
    assert all(torch.equal(v, tensors(whole.bundle)[k]) for k, v in tensors(again.bundle).items())


def test_a_folder_that_is_not_ours_is_never_removed(model, tmp_path):
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="in the way"):
        finetune(model, rows(40), out=tmp_path / "out", baselines=False, **FAST)
    assert (tmp_path / "out.work" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("frame", "settings", "says"),
    [
        (rows(5), {}, "too few"),
        (rows(40).assign(label="x"), {}, "one label"),
        (rows(40), {"label": "labels"}, "no column 'labels'"),
        (rows(40), {"seeds": 0}, "at least 1"),
        (rows(40).assign(label=[*["x"] * 39, None]), {"task": task("regression")}, "number"),
    ],
)
def test_tables_that_do_not_serve_are_named(model, frame, settings, says):
    with pytest.raises((ValueError, KeyError), match=says):
        finetune(model, frame, **FAST | settings)


def test_the_interval_is_scipys():
    values = [0.8, 0.83, 0.79, 0.85, 0.81]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = t_interval(values)
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high)) and found[
        "mean"
    ] == pytest.approx(0.816)
    assert t_interval([0.5]) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    assert t_interval([0.5, None])["mean"] is None


def test_parts_of_a_schedule_are_the_whole():
    whole = schedule("linear", warmup=0.1)
    for k in range(4):
        part = schedule("part", inner=whole, begin=k / 4, end=(k + 1) / 4).build()
        for p in (0.0, 0.3, 0.99):
            assert part.factor(p) == pytest.approx(whole.build().factor((k + p) / 4))
    with pytest.raises(ValueError, match="begin"):
        schedule("part", inner=whole, begin=0.5, end=0.5).build()


@dataclass
class Code:
    """As much of a tokenizer's encoding as rows are made of."""

    ids: list[int]
    type_ids: list[int]

    def __len__(self):
        return len(self.ids)


@pytest.mark.parametrize("pack", [0, 24])
def test_rows_keep_their_targets_however_they_stand_side_by_side(tmp_path, pack):
    """Fields a row, a token and a list; rows of one and of two documents; packed and not: the same tokens and answers."""
    rng = np.random.default_rng(2)
    held = []
    for i in range(40):
        codes = [
            Code([100 * i + 10 * d + t for t in range(n)], [d] * n) for d, n in enumerate(rng.integers(1, 6, 1 + i % 2))
        ]
        ids = torch.tensor([x for code in codes for x in code.ids])
        held.append(Row(i, codes, {"one": torch.tensor([i, -i]), "each": ids * 2, "some": ids[: i % 3, None]}))
    write_rows(tmp_path / "rows", held, {"one": "row", "each": "token", "some": "list"})
    source = data("table", path=str(tmp_path / "rows"), rows=8, pack=pack).build()
    seen = []
    for _ in range(source.per_epoch):
        batch = source.make(source.plan())
        token_BT, layout = batch["token"], batch["layout"]
        assert torch.equal(batch["each"], torch.where(layout.real_BT, token_BT * 2, -100))
        numbers = batch["one"][:, 0].tolist()
        assert layout.count == sum(len(held[i].codes) for i in numbers)
        documents = [code for i in numbers for code in held[i].codes]
        for number, code in enumerate(documents):
            mine = layout.real_BT & (layout.document_BT == number)
            assert token_BT[mine].tolist() == code.ids and layout.type_BT[mine].tolist() == code.type_ids
            assert layout.position_BT[mine].tolist() == list(range(len(code)))
        assert batch["some"].tolist() == [
            [b, x] for b, i in enumerate(numbers) for x in held[i].target["some"][:, 0].tolist()
        ]
        assert len(token_BT) == len(numbers) if not pack else len(token_BT) < len(numbers)
        seen += numbers
    assert sorted(seen) == list(range(40))


def test_table_data_visits_every_row_once_an_epoch_and_resumes(tmp_path):
    rng = np.random.default_rng(0)
    token = [torch.full((int(n),), i + 1) for i, n in enumerate(rng.integers(1, 12, 101))]
    held = [Row(i, [Code(t.tolist(), [1] * len(t))], {"target": torch.tensor(i)}) for i, t in enumerate(token)]
    write_rows(tmp_path / "rows", held, {"target": "row"})
    spec = data("table", path=str(tmp_path / "rows"), rows=8, seed=3)
    source = spec.build()
    assert source.per_epoch == 13
    orders = []
    for _ in range(2):
        seen = []
        for _ in range(13):
            batch = source.make(source.plan())
            real = batch["layout"].real_BT
            for row, keep, target in zip(batch["token"], real, batch["target"], strict=True):
                assert row[keep].tolist() == token[target].tolist() and (row[~keep] == 0).all()
            assert torch.equal(batch["layout"].type_BT, real.long()) and batch["layout"].whole == bool(real.all())
            seen += batch["target"].tolist()
        assert sorted(seen) == list(range(101))
        orders.append(seen)
    assert orders[0] != orders[1]
    for _ in range(5):
        source.plan()
    other = spec.build()
    other.load(json.loads(json.dumps(source.state())))
    for _ in range(20):
        a, b = (s.make(s.plan()) for s in (source, other))
        assert torch.equal(a["token"], b["token"]) and torch.equal(a["row"], b["row"])


def test_batches_are_of_like_lengths(tmp_path):
    rng = np.random.default_rng(1)
    token = [torch.ones(int(n), dtype=torch.long) for n in rng.integers(1, 100, 640)]
    write_rows(tmp_path / "rows", [Row(i, [Code(t.tolist(), t.tolist())]) for i, t in enumerate(token)], {})
    source = data("table", path=str(tmp_path / "rows"), rows=16).build()
    batches = [source.make(source.plan()) for _ in range(source.per_epoch)]
    real = sum(int(b["layout"].real_BT.sum()) for b in batches)
    assert real / sum(b["token"].numel() for b in batches) > 0.93


def test_equal_texts_never_stand_on_both_sides():
    frame = pandas.concat([rows(100), rows(100)])
    examples = take_examples(read_table(frame), "text", None, "label")
    kept, off = cut(examples.keys(), examples.label, 0.1, 0, "test")
    assert not {examples.text[i] for i in kept} & {examples.text[i] for i in off} and len(off) == 20


def test_a_pretrained_pooler_is_kept():
    """A BERT with its pooler begins fine-tuning with it; one without begins with a fresh one."""
    from test_bert import vocabulary

    from bertsmith.head import head as heads
    from bertsmith.hf.bert import bert_encoder
    from bertsmith.model import Bundle, Model
    from bertsmith.objective import objective as objectives
    from bertsmith.pool import pool as pools
    from bertsmith.task import task as tasks
    from bertsmith.tuning import _start

    spec, with_pooler = bert_encoder(1, 16, 2, 61), heads("vector", pool=pools("bert"))
    encoder = spec.build()
    aim = objectives(
        "supervised", head=heads("linear", pool=pools("bert")), task=tasks("single_label"), labels=["a", "b"]
    )
    kept = Model(spec, Bundle(encoder, with_pooler.build(encoder, 0)), vocabulary(), with_pooler)
    begun = _start(kept, aim).tensors
    assert begun["objective.head.pool.dense.weight"].equal(kept.head.pool.dense.weight)
    assert not [
        name for name in _start(Model(spec, Bundle(encoder, None), vocabulary()), aim).tensors if "pool" in name
    ]


def test_every_head_of_a_joint_task_takes_what_the_encoder_gives():
    from test_bert import vocabulary

    from bertsmith.head import head as heads
    from bertsmith.hf.bert import bert_encoder
    from bertsmith.model import Bundle, Model
    from bertsmith.pool import pool as pools

    spec, pooler = bert_encoder(1, 16, 2, 61), heads("vector", pool=pools("bert"))
    parts = {"slots": task("tagging"), "intent": task("single_label")}
    aim = task("joint", parts=parts).build(["slots.city", "intent.book", "intent.play"])
    bare, encoder = Model(spec, Bundle(spec.build(), None), vocabulary()), spec.build()
    trained = Model(spec, Bundle(encoder, pooler.build(encoder, 0)), vocabulary(), pooler)
    assert bare.usual_head(aim).get("heads.intent.pool") == pools("mean")
    assert bare.usual_head(aim, "first").get("heads.intent.pool") == pools("first")
    assert trained.usual_head(aim).get("heads.intent.pool") == pools("bert")


def test_rare_labels_start_at_their_log_odds(tmp_path):
    aim = task("multi_label").build(["a", "b", "c"])
    raw = ["a", "a|b", "", "", "a", "", "", ""]
    start = aim.starts(raw)
    want = [math.log((n + 0.5) / (8 - n + 0.5)) for n in (3, 1, 0)]
    assert start.tolist() == pytest.approx(want, rel=1e-6)
    assert task("single_label").build(["a", "b"]).starts(["a", "b"]) is None
