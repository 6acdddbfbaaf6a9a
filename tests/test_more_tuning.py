"""Several sets learnt at once, examples scored and left out, texts written anew: data, objectives and the functions on them."""

import json
import math
from itertools import islice

import numpy as np
import pytest
import torch
from golden.make import tokenizer as toy_tokenizer
from test_data import corrupt, same
from toy import DIM, VOCAB, build, corrupted, encoder_spec, example, language, wake

import bertsmith
from bertsmith import augment, diet
from bertsmith.augment import GIVEN, Writer
from bertsmith.coding import Coder, Row
from bertsmith.data import data
from bertsmith.data.table import write_rows
from bertsmith.examples import Examples
from bertsmith.head import head
from bertsmith.hf.bert import bert_encoder
from bertsmith.labelled.spans import Span
from bertsmith.learner import build as build_learner
from bertsmith.linear import tensors
from bertsmith.loader import batches
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.objective import conditional_lm, objective
from bertsmith.objective.multi_task import MultiTask
from bertsmith.objective.r3f import R3F
from bertsmith.optim import optim
from bertsmith.pool import pool
from bertsmith.prefinetune import Together, multitask, prefinetune
from bertsmith.resize import resize
from bertsmith.splits import Splits
from bertsmith.task import task
from bertsmith.train import Run, Stage, train
from bertsmith.tuning import finetune

WORDS = 60


def toy_model(seed=0, depth=1, speaks=False):
    torch.manual_seed(seed)
    spec = bert_encoder(depth, 32, 2, WORDS, length=32, dropout=0.0)
    encoder = spec.build()
    made = head("masked_lm", norm=norm("layer")) if speaks else None
    bundle = Bundle(encoder, made.build(encoder, 0) if made else None)
    return Model(spec, bundle, toy_tokenizer(WORDS), made, max_length=32)


@pytest.fixture(scope="module")
def model():
    return toy_model()


def split(make, train=100, other=20):
    return Splits(make(train), make(other), make(other), "made")


# ---- batches of several data


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Three tables of 30, 20 and 10 rows; what is asked of a row is its number."""
    home, coder = tmp_path_factory.mktemp("tables"), Coder(toy_tokenizer(WORDS), 32)
    found = {}
    for name, rows in (("a", 30), ("b", 20), ("c", 10)):
        codes = coder.encode([" ".join(f"w{k % 50}" for k in range(1 + i % 7)) for i in range(rows)])
        asked = [Row(i, [code], {"target": torch.tensor(i % 2)}) for i, code in enumerate(codes)]
        write_rows(home / name, asked, {"target": "row"})
        found[name] = data("table", path=str(home / name), rows=4, seed=len(name))
    return found


def several(kind, tables, **some):
    return data(kind, sources=tables, **some)


KINDS = {"mixture": {"share": {"a": 30, "b": 20, "c": 10}, "seed": 3}, "cycle": {}}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 1e9])
def test_data_are_drawn_with_their_tempered_shares(tables, temperature):
    source = several("mixture", tables, temperature=temperature, **KINDS["mixture"]).build()
    count = np.bincount([source.choose(i) for i in range(6000)], minlength=3)
    wanted = np.array([30.0, 20.0, 10.0]) ** (1 / temperature)
    assert np.abs(count / 6000 - wanted / wanted.sum()).max() < 0.02
    assert [source.choose(i) for i in (5, 4, 3)] == [source.choose(i) for i in range(3, 6)][::-1]


def test_data_take_turns(tables):
    source = several("cycle", dict(reversed(tables.items()))).build()
    assert [source.make(source.plan())["task"] for _ in range(7)] == list("abcabca")
    pairs = several("cycle", tables, together=2).build()
    assert "".join(pairs.make(pairs.plan())["task"] for _ in range(8)) == "aabbccaa"


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_several_data_gives_its_own_batches_in_their_order(tables, kind):
    source, alone = several(kind, tables, **KINDS[kind]).build(), {name: t.build() for name, t in tables.items()}
    rows = []
    for _ in range(40):
        batch = source.make(source.plan())
        own = alone[batch["task"]].make(alone[batch["task"]].plan())
        assert torch.equal(batch["token"], own["token"]) and torch.equal(batch["target"], own["target"])
        rows += batch["row"].tolist()
    assert len(set(rows)) == len(rows), "a number of a row stands for two rows"
    assert source.state()["of"] == {name: one.state() for name, one in alone.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_several_data_resume_exactly_with_any_number_of_workers(tables, kind):
    spec = several(kind, tables, **KINDS[kind])
    whole = list(islice(batches(spec.build(), corrupt, 5), 24))
    assert whole[-1]["state"]["of"]["c"]["epoch"] >= 1
    for k, workers in ((0, 0), (7, 0), (15, 0), (11, 2)):
        source = spec.build()
        source.load(json.loads(json.dumps(whole[k]["state"])))
        again = list(islice(batches(source, corrupt, 5, workers), 23 - k))
        assert all(
            same(*map(plain, pair)) and pair[0]["task"] == pair[1]["task"]
            for pair in zip(whole[k + 1 :], again, strict=True)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_world_size_sees_the_same_batches_of_several_data(tables, kind):
    spec = several(kind, tables, together=2, **KINDS[kind])
    alone = list(islice(batches(spec.build(), corrupt, 5), 12))
    ranks = [list(islice(batches(spec.build(), corrupt, 5, 0, rank, 2), 6)) for rank in range(2)]
    for number, both in enumerate(zip(*ranks, strict=True)):
        assert both[0]["task"] == both[1]["task"], "two processes are at different tasks"
        for rank, batch in enumerate(both):
            wanted = alone[2 * number + rank] | {"state": alone[2 * number + 1]["state"]}
            assert same(plain(batch), plain(wanted))


def plain(batch):
    return {k: v for k, v in batch.items() if k != "task"}


def test_mistakes_with_several_data_are_named(tables):
    for some, said in (
        ({"sources": {}}, "there is none"),
        ({"sources": {"a.b": tables["a"]}}, "'a.b' cannot be a name"),
        ({"sources": {"type": tables["a"]}}, "'type' cannot be a name"),
        ({"share": {"d": 1}}, "a share for d, but there are only: a, b, c"),
        ({"share": {"a": 0}}, "above 0"),
        ({"temperature": 0.0}, "above 0"),
        ({"together": 0}, "together is at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            data("mixture", **({"sources": tables} | some)).build()
    with pytest.raises(ValueError, match="not a state of these data: it must have batch and of .a, b, c."):
        several("cycle", tables).build().load({"epoch": 0})


# ---- one encoder, several objectives


def supervised(labels):
    return objective(
        "supervised",
        head=head("linear", pool=pool("first"), dropout=0.0),
        task=task("single_label"),
        labels=[f"k{i}" for i in range(labels)],
    )


def three(encoder, **some):
    tasks = {"two": supervised(2), "five": supervised(5), "words": example("objective", "masked_lm")}
    return wake(objective("multi_task", tasks=tasks, **some).build(encoder).eval(), seed=2)


def test_losses_are_divided_by_the_logarithm_of_the_number_of_outcomes():
    encoder = build(encoder_spec())
    many = three(encoder)
    batch = language(8, 0)
    logits = {name: many.tasks[name].predict(encoder, batch)[0].detach().double().numpy() for name in ("two", "five")}
    for name, y in logits.items():
        z = y - y.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        mean = -log_p[np.arange(8), batch["target"].numpy()].mean()
        out = many(encoder, batch | {"task": name})
        assert out["loss"].item() == pytest.approx(mean / math.log(y.shape[1]), rel=1e-5)
        assert out[name].item() == pytest.approx(mean, rel=1e-5)
        assert many.loss(*many.predict(encoder, batch | {"task": name})).item() == pytest.approx(out["loss"].item())
    hidden = corrupted(many, batch | {"task": "words"}, 0)
    out = many(encoder, hidden)
    assert out["loss"].item() == pytest.approx(out["words"].item() / math.log(VOCAB), rel=1e-5)
    parts = [many(encoder, hidden | {"task": name})["loss"] for name in ("two", "five", "words")]
    torch.testing.assert_close(many(encoder, plain(hidden))["loss"], sum(parts))  # of no task: of all
    given = three(encoder, outcomes={"two": 10, "five": 1})
    assert given.weight["two"] == pytest.approx(1 / math.log(10)) and given.weight["five"] == 1
    with pytest.raises(ValueError, match="outcomes of six, but the tasks are: five, two, words"):
        three(encoder, outcomes={"six": 2})


def test_heads_do_not_mix():
    """A batch of one task reaches its head and the encoder, is corrupted as its own objective does, and no other head moves."""
    encoder = build(encoder_spec())
    many = three(encoder)
    for name in ("two", "five", "words"):
        batch = corrupted(many, language(8, 0) | {"task": name}, 0)
        assert torch.equal(batch["token"], language(8, 0)["token"]) == (name != "words")
        many(encoder, batch)["loss"].backward()
        reached = {n.split(".")[1] for n, p in many.named_parameters() if p.grad is not None and ".table." not in n}
        assert reached == {name} and encoder.layers[0].mixer.q.weight.grad.abs().max() > 0
        many.zero_grad()
        encoder.zero_grad()
    with pytest.raises(ValueError, match="a batch of task 'six', but objective/multi_task has only: five, two, words"):
        many(encoder, language(8, 0) | {"task": "six"})


def together_run(tables, kind="mixture", **more):
    spec = bert_encoder(1, 16, 2, WORDS, length=32, dropout=0.1)
    tasks = {name: supervised(2) for name in tables} | {"a": objective("r3f", inner=supervised(2))}
    stage = Stage(
        objective("multi_task", tasks=tasks),
        several(kind, tables, **KINDS[kind]),
        budget="7-steps",
        optim=optim("adamw", lr=3e-3),
        accumulate=3,
    )
    return Run(
        spec, [stage], **({"seed": 1, "precision": "fp32", "workers": 0, "save_steps": 3, "log_every": 1} | more)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_several_sets_that_was_interrupted_is_as_one_that_never_was(tables, tmp_path, monkeypatch, kind):
    whole = train(together_run(tables, kind), tmp_path / "whole", progress=False)
    calls, forward, seen = 0, MultiTask.forward, []

    def stumble(self, encoder, batch):
        nonlocal calls
        calls += 1
        seen.append(batch["task"])
        if calls in (5, 17):  # in the middle of a step: before the first checkpoint, and after one
            raise KeyboardInterrupt
        return forward(self, encoder, batch)

    monkeypatch.setattr(MultiTask, "forward", stumble)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(together_run(tables, kind), tmp_path / "cut", progress=False)
    again = train(together_run(tables, kind), tmp_path / "cut", progress=False)
    assert calls > 17 and again.data == whole.data and set(seen) == set("abc")
    for one, two in ((whole.tensors, again.tensors), (whole.moments, again.moments)):
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    losses = [
        [json.loads(x)["loss"] for x in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("whole", "cut")
    ]
    assert losses[0] == losses[1]


def test_r3f_is_its_formula(monkeypatch):
    """L + w (KL(p, q) + KL(q, p)), q with noise at the token table, which learns nothing from the noisy pass."""
    encoder = build(encoder_spec())
    inner = supervised(3)
    built = wake(objective("r3f", inner=inner, weight=0.7, radius=0.4).build(encoder).eval(), seed=2)
    batch = language(6, 0)
    shape = (*batch["token"].shape, DIM)
    noise = 0.4 * torch.randn(shape, generator=torch.Generator().manual_seed(9))
    drawn = built._noise(torch.zeros(shape), batch["layout"], torch.Generator().manual_seed(0))
    assert 0.39 < drawn.max() <= 0.4 and -0.4 <= drawn.min() < -0.39 and abs(drawn.mean()) < 0.05
    monkeypatch.setattr(R3F, "_noise", lambda *_: noise)
    out = built(encoder, batch)
    out["loss"].backward()
    got = encoder.embedding.table.weight.grad.clone()
    encoder.zero_grad()

    clean = built.predict(encoder, batch)[0]
    hook = encoder.embedding.table.register_forward_hook(lambda m, i, y: y.detach() + noise)
    moved = built.predict(encoder, batch)[0]
    hook.remove()
    p, q = (torch.softmax(x.double(), 1).detach().numpy() for x in (clean, moved))
    apart = ((p - q) * (np.log(p) - np.log(q))).sum(1).mean()
    task_loss = -np.log(p[np.arange(6), batch["target"].numpy()]).mean()
    assert apart > 0.01 and out["loss"].item() == pytest.approx(task_loss + 0.7 * apart, rel=1e-5)
    kl = ((clean.softmax(1) - moved.softmax(1)) * (clean.log_softmax(1) - moved.log_softmax(1))).sum(1).mean()
    (built.loss(clean, batch["target"]) + 0.7 * kl).backward()
    torch.testing.assert_close(got, encoder.embedding.table.weight.grad, rtol=1e-4, atol=1e-6)


# ---- before fine-tuning


GROUPS = [range(5 + 10 * g, 15 + 10 * g) for g in range(4)]
OLD, NEW = {"first": ((0, 1), (2, 3)), "second": ((0, 2), (1, 3))}, ((0, 3), (1, 2))


def sides(rng, pairs, count):
    """Texts of three words; the label says of which two of four groups of words they are."""
    label = rng.integers(0, 2, count)
    made = [[rng.choice(GROUPS[pairs[y][rng.integers(2)]]) for _ in range(3)] for y in label]
    return Examples([" ".join(f"w{w}" for w in text) for text in made], None, [f"k{y}" for y in label])


@pytest.mark.parametrize("seed", range(3))
def test_after_related_tasks_a_new_one_is_learnt_from_sixteen_examples(seed):
    """The groups of words are learnt by two tasks on them; a third one then needs 16 texts. Without them it is guesswork."""
    base, rng = toy_model(seed), np.random.default_rng(seed)
    first = {name: head("linear", pool=pool("bert")) for name in OLD}
    aims = {name: task("single_label") for name in OLD}
    how = Together(epochs=8, lr=5e-3, batch=64, accumulate=1, tasks=aims, heads=first)
    sets = {name: split(lambda n, p=p: sides(rng, p, n), 320) for name, p in OLD.items()}
    ready = prefinetune(base, sets, how, progress=False)
    known = ready.report["prefinetuned"]
    assert ready.head is None and all(known[name]["test"]["accuracy"] >= 0.8 for name in OLD)
    few, test = sides(rng, NEW, 16), sides(rng, NEW, 200)
    # the first state is of use to a new head only once it was learnt to be
    some = {"epochs": 2, "lr": 3e-3, "batch": 2, "pool": "bert", "progress": False, "baselines": False, "seed": seed}
    plain, better = (
        finetune(one, few, valid=few, test=test, **some).report["test"]["accuracy"]["mean"] for one in (base, ready)
    )
    assert better > plain + 0.25, (plain, better)  # over the seeds 0.91 beside 0.50


def partly(rng, count, kind):
    """w30 is a drug and w31 w32 a disease, in every text; only one of the two is labelled."""
    texts, spans = [], []
    for _ in range(count):
        parts = [f"w{w}" for w in rng.integers(5, 20, rng.integers(2, 6))]
        for name in ("w30", "w31 w32"):
            parts.insert(int(rng.integers(0, len(parts) + 1)), name)
        text = " ".join(parts)
        what = {"drug": "w30", "disease": "w31 w32"}[kind]
        texts.append(text)
        spans.append([Span(text.find(what), text.find(what) + len(what), kind)] if what in text else [])
    return Examples(texts, None, spans)


def test_sets_in_which_other_things_are_labelled_have_a_head_each(model, tmp_path):
    rng = np.random.default_rng(0)
    sets = {name: split(lambda n, k=name: partly(rng, n, k), 80) for name in ("drug", "disease")}
    how = Together(
        epochs=8, lr=5e-3, batch=16, accumulate=2, temperature=None, tasks={name: task("tagging") for name in sets}
    )
    models = multitask(model, sets, how, tmp_path / "out", progress=False)
    assert models["drug"].encoder is models["disease"].encoder and models["drug"].labels == ["drug"]
    assert not (tmp_path / "out.work").exists()
    for name, one in models.items():
        assert one.report["test"]["span_f1"] > 0.95, (name, one.report["test"])
        back = bertsmith.load(tmp_path / "out" / name)
        wanted = {"drug": [Span(3, 6, "drug")], "disease": [Span(7, 14, "disease")]}[name]
        assert back.predict("w7 w30 w31 w32 w9").label == one.predict("w7 w30 w31 w32 w9").label == wanted


def test_a_killed_call_is_gone_on_with_and_never_on_other_data(model, tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    sets = {name: split(lambda n, p=p: sides(rng, p, n), 40, 10) for name, p in OLD.items()}
    how = Together(epochs=2, batch=8, accumulate=2, tasks={name: task("single_label") for name in OLD})
    whole = prefinetune(model, sets, how, progress=False)
    calls, forward = 0, MultiTask.forward

    def stumble(self, encoder, batch):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return forward(self, encoder, batch)

    monkeypatch.setattr(MultiTask, "forward", stumble)
    with pytest.raises(KeyboardInterrupt):
        prefinetune(model, sets, how, tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match="holds another run"):
        prefinetune(model, sets | {"first": sets["second"]}, how, tmp_path / "out", progress=False)
    again = prefinetune(model, sets, how, tmp_path / "out", progress=False)
    assert all(torch.equal(v, tensors(again.bundle)[k]) for k, v in tensors(whole.bundle).items())
    assert not (tmp_path / "out.work").exists() and again.report == whole.report


def test_the_loss_of_each_task_falls_and_the_given_model_stays(model, tmp_path):
    """Tasks of four kinds in one mixture, through tables whose columns are guessed; outcomes are counted."""
    rng = np.random.default_rng(1)
    both = sides(rng, OLD["first"], 120)
    rows = [{"text": t, "label": y} for t, y in zip(both.text, both.label, strict=True)]
    numbers = [{"text": t, "label": 0.5 + 10.0 * (y == "k1")} for t, y in zip(both.text, both.label, strict=True)]
    flags = [{"text": t, "label": [y, "all"]} for t, y in zip(both.text, both.label, strict=True)]
    picks = Examples([t.split()[0] for t in both.text], [[t.split()[0], "w50", "w51"] for t in both.text], [0] * 120)
    sources = {"side": rows, "size": numbers, "flags": flags, "pick": picks}
    how = Together(
        epochs=6, lr=5e-3, batch=16, accumulate=4, tasks={"pick": task("multiple_choice"), "size": task("regression")}
    )
    before = {k: v.clone() for k, v in tensors(model.bundle).items()}
    said, kept = [], {}

    def watch(self, encoder, batch):
        out = forward(self, encoder, batch)
        kept.setdefault(batch["task"], []).append(out[batch["task"]].item())
        kept["weight"] = self.weight
        return out

    forward = MultiTask.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultiTask, "forward", watch)
        ready = prefinetune(model, sources, how, tmp_path / "out", say=said.append)
    for name in sources:
        assert np.mean(kept[name][-4:]) < 0.9 * np.mean(kept[name][:4]), (name, kept[name][::5])
    log = math.log
    assert kept["weight"] == {"flags": 1 / log(2), "pick": 1 / log(3), "side": 1 / log(2), "size": 1.0}
    assert all(torch.equal(v, before[k]) for k, v in tensors(model.bundle).items()) and model.head is None
    assert any(line.startswith("side: splits: 96 train, 12 valid, 12 test") for line in said), said
    assert ready.report["prefinetuned"]["size"]["test"]["pearson"] > 0.8
    back = bertsmith.load(tmp_path / "out")
    assert back.head is None and back.report == json.loads(json.dumps(ready.report))
    np.testing.assert_array_equal(back.encode("w7 w20"), ready.encode("w7 w20"))
    for sets, some, wanted in (
        ({}, {}, "there is none"),
        ({"side": rows}, {"tasks": {"sid": task("single_label")}}, "tasks of sid, but the sets are: side"),
        ({"side": rows}, {"epochs": 0}, "above 0"),
        ({"side": split(lambda n: both)}, {}, "side: splits do not say what their labels are"),
    ):
        with pytest.raises(ValueError, match=wanted):
            multitask(model, sets, Together(**some), progress=False)


# ---- which examples matter


def test_scores_are_their_formulas(model):
    """EL2N = |p - y|; GraNd by the last layer = |p - y| sqrt(|h|^2 + 1), h what that layer reads."""
    names = ["a", "b", "c"]
    for kind, raw in (("single_label", ["b", "a", "c", "a"]), ("multi_label", ["a|c", "", "b", "a|b|c"])):
        aim = task(kind).build(names)
        made = head("linear", pool=pool("bert"))
        one = Model(
            model.spec,
            Bundle(model.encoder, wake(made.build(model.encoder, 3))),
            model.tokenizer,
            made,
            task(kind),
            names,
        )
        texts = ["w1 w2 w3", "w9", "w5 w6 w7 w8 w9", "w20 w21"]
        rows = aim.rows(Coder(model.tokenizer, 32), texts, None, raw)
        el2n, grand = diet.asked(one, aim, rows)
        for i, text in enumerate(texts):
            (_, token, layout), *_ = one.tokens([text])
            with torch.no_grad():
                h = one.head.pool(one.encoder(token, layout), layout)[0].double().numpy()
            W, b = (x.detach().double().numpy() for x in (one.head.out.weight, one.head.out.bias))
            z = W @ h + b
            if kind == "single_label":
                p, y, share = np.exp(z) / np.exp(z).sum(), np.eye(3)[names.index(raw[i])], 1
            else:
                p, y, share = 1 / (1 + np.exp(-z)), np.array([float(n in raw[i].split("|")) for n in names]), 3
            away = np.linalg.norm(p - y)
            assert el2n[i] == pytest.approx(away, rel=1e-4)
            # the loss of several labels is the mean over them, so that its gradient is by so much smaller
            assert grand[i] == pytest.approx(away / share * np.sqrt(h @ h + 1), rel=1e-4)
        assert diet.asked(one, aim, rows, ("**",))[1].min() > grand.min()  # more weights, a longer gradient
        with pytest.raises(ValueError, match="no parameter of the head matches last.*; there are: pool.dense.weight"):
            diet.asked(one, aim, rows, ("last",))


def test_of_a_ranking_the_highest_and_the_lowest_are_left_out():
    score = np.array([0.3, 0.9, 0.1, 0.9, 0.5, 0.2, 0.8, 0.0, 0.4, 0.6])
    assert diet.ranked(score) == list(range(10))
    assert diet.ranked(score, drop=0.1) == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert diet.ranked(score, drop=0.2, keep=0.7) == [0, 4, 6, 8, 9]
    with pytest.raises(ValueError, match="0 <= drop < keep <= 1"):
        diet.ranked(score, 0.5, 0.5)


def noisy(rng, count, wrong):
    """Texts that hold w30 or w31, which is the label, of which the first `wrong` bear the other one."""
    label = rng.integers(0, 2, count)
    texts = [" ".join(rng.permutation([*(f"w{w}" for w in rng.integers(5, 20, 4)), f"w{30 + y}"])) for y in label]
    return Examples(texts, None, [f"k{1 - y if i < wrong else y}" for i, y in enumerate(label)])


def test_wrong_labels_have_the_highest_scores_once_something_is_learnt(model):
    examples = noisy(np.random.default_rng(0), 240, 24)
    share = {}
    for epochs, seeds in ((0, 1), (3, 2)):
        how = diet.Young(seeds=seeds, epochs=epochs, whole=8, lr=4e-3, batch=12)
        scored = diet.score(model, examples, task("single_label"), ["k0", "k1"], how=how)
        assert scored.el2n_SN.shape == scored.grand_SN.shape == (seeds, 240)
        np.testing.assert_allclose(scored.el2n, scored.el2n_SN.mean(0))
        assert not np.allclose(scored.el2n_SN[0], scored.el2n_SN[-1]) or seeds == 1
        share[epochs] = [(np.argsort(-s)[:24] < 24).mean() for s in (scored.el2n, scored.grand)]
    assert min(share[3]) > 0.9 and max(share[0]) < 0.4, share


def test_without_the_wrong_labels_as_much_is_learnt_from_less(model, tmp_path):
    """300 texts, 45 of them with a wrong label: the 15 % with the highest scores are left out, and every test text is told."""
    rng = np.random.default_rng(1)
    train, valid, test = noisy(rng, 300, 45), noisy(rng, 20, 0), noisy(rng, 100, 0)
    young = diet.Young(seeds=1, epochs=4, whole=8, lr=4e-3, batch=12)
    tuned = diet.finetune_on_diet(
        model,
        train,
        drop=0.15,
        valid=valid,
        test=test,
        young=young,
        head=head("linear", pool=pool("bert")),
        epochs=3,
        out=tmp_path / "out",
        progress=False,
        baselines=False,
    )
    assert tuned.report["test"]["accuracy"]["mean"] > 0.95
    assert tuned.report["diet"] == {"by": "el2n", "drop": 0.15, "keep": 1.0, "left_out": 45}
    assert json.loads((tmp_path / "out/report.json").read_text())["diet"]["left_out"] == 45
    assert tuned.report["splits"]["train"] == 255
    for some, said in (
        ({"by": "luck"}, "no score 'luck'"),
        ({"task": task("regression"), "drop": 0.1}, "one label a text"),
    ):
        raw = Examples(train.text, None, [1.0] * 299 + [2.0]) if "task" in some else train
        with pytest.raises(ValueError, match=said):
            diet.finetune_on_diet(model, raw, valid=raw, test=raw, progress=False, **some)
    with pytest.raises(ValueError, match="epochs 0 to whole"):
        diet.score(model, train, task("single_label"), ["k0", "k1"], how=diet.Young(epochs=4))


# ---- new texts


def test_the_label_is_never_hidden_nor_asked(model):
    encoder = build(encoder_spec())
    made = objective("conditional_lm", inner=example("objective", "masked_lm").replace("masking.rate", 0.9)).build(
        encoder
    )
    batch = language(40, 0)
    given = torch.zeros_like(batch["token"])
    given[:, 1:3] = 1
    batch["layout"].extra[GIVEN] = given
    hidden = corrupted(made, batch, 0)
    assert GIVEN == conditional_lm.GIVEN
    asked = torch.zeros(given.numel(), dtype=torch.bool)
    asked[hidden["asked"]] = True
    asked = asked.view(given.shape)
    assert torch.equal(hidden["token"][:, 1:3], batch["token"][:, 1:3]) and not asked[:, 1:3].any()
    assert asked[:, 3:].float().mean() > 0.8 and torch.equal(hidden["answer"], batch["token"][asked])
    without = corrupted(made, language(40, 0), 0)
    assert len(without["asked"]) > len(hidden["asked"])


def test_more_tokens_leave_the_old_ones_as_they_are():
    method, plain_lm = resize("tokens", count=3).build(), example("objective", "masked_lm")
    small = wake(build_learner(encoder_spec(), [], plain_lm, 0).eval())
    larger, grown = method(
        encoder_spec(), {k: v.detach() for k, v in tensors(small).items()}, lambda s: build_learner(s, [], plain_lm, 0)
    )
    assert larger.get("embedding.vocab") == VOCAB + 3 and grown["objective.head.bias"].shape == (VOCAB + 3,)
    for k, v in tensors(small).items():
        assert torch.equal(grown[k][: len(v)] if v.dim() else grown[k], v)
    assert grown["encoder.embedding.table.weight"][VOCAB:].abs().min() > 0
    table = {"encoder.embedding.table.weight": torch.ones(VOCAB, DIM)}
    squares = method(encoder_spec(), table, lambda s: build_learner(s, [], plain_lm, 0), "square")[1]
    assert squares["encoder.embedding.table.weight"][:, 0].tolist() == [1.0] * VOCAB + [0.0] * 3
    with pytest.raises(ValueError, match="count is at least 1"):
        resize("tokens", count=0).build()


def flavoured(rng, count, names=("w50", "w51")):
    """A plain word, and one of five that go with the label alone."""
    label = rng.integers(0, 2, count)
    texts = [f"w{rng.integers(5, 15)} w{30 + 5 * y + rng.integers(5)}" for y in label]
    return Examples(texts, None, [names[y] for y in label])


@pytest.fixture(scope="module")
def flavours():
    """(texts with labels, a masked LM, a classifier of the texts). Larger weights than usual: attention is learnt sooner."""
    texts = flavoured(np.random.default_rng(0), 200)
    base = toy_model(1, speaks=True)
    with torch.no_grad():
        for weight in tensors(base.bundle).values():
            weight.mul_(8.0 if weight.dim() > 1 else 1.0)
    judge = finetune(
        toy_model(), texts, valid=texts.take(list(range(20))), test=texts.take(list(range(20))), epochs=2, lr=5e-3, batch=8,
        progress=False, baselines=False,
    )  # fmt: skip
    return texts, base, judge


@pytest.mark.parametrize("how,epochs", [("prepend", 16), ("expand", 36)])  # a new token has to be learnt first
def test_what_is_written_anew_keeps_the_label_that_stands_in_front(flavours, how, epochs):
    texts, base, judge = flavours
    before = {k: v.clone() for k, v in tensors(base.bundle).items()}
    writer = augment.learn(base, texts, how, epochs=epochs, lr=5e-3, batch=40, progress=False)
    new = writer.write(texts, count=2, share=0.5)
    assert len(new) == 400 and new.label == [y for y in texts.label for _ in range(2)]
    assert all(torch.equal(v, before[k]) for k, v in tensors(base.bundle).items())
    assert len(writer.model.encoder.embedding.table.weight) == WORDS + 2 * (how == "expand")
    for old, one in zip([t for t in texts.text for _ in range(2)], new.text, strict=True):
        a, b = old.split(), one.split()
        assert len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 1 and "[" not in one
    kept = augment.preserved(judge, new)
    swap = dict(zip(("w50", "w51"), ("w51", "w50"), strict=True))  # the same writer, told the other label
    other = writer.write(Examples(texts.text, None, [swap[y] for y in texts.label]), count=2, share=0.5)
    lost = augment.preserved(judge, Examples(other.text, None, new.label))
    assert augment.preserved(judge, texts) > 0.95 and kept > 0.9 and lost < 0.65, (kept, lost)
    varied = augment.diversity(texts.text[:20], new.text[:40])
    assert varied["changed"] > 0.6 and varied["new_2"] > 0.6 > varied["new_1"]
    assert writer.write(texts, 2, 0.5).text == new.text != writer.write(texts, 2, 0.5, seed=1).text
    assert (
        writer.write(texts.take([0, 1]), 1, 0.5).text[0] == new.text[0]
    )  # of the copy's number, not of how many there are


def test_mistakes_in_writing_are_named(flavours):
    texts, base, judge = flavours
    unknown = Examples(texts.text[:8], None, ["sunny", "rainy"] * 4)  # both are the unknown token
    with pytest.raises(ValueError, match="'rainy' and 'sunny' are the same tokens .*how='expand'"):
        augment.learn(base, unknown)
    with pytest.raises(ValueError, match="no way 'append'"):
        augment.learn(base, texts, "append")
    with pytest.raises(ValueError, match="no masked-LM head"):
        augment.learn(judge, texts)
    writer = Writer(base, {"w50": "w50"}, 32)
    with pytest.raises(ValueError, match="no label 'w51' was learnt; there are: w50"):
        writer.write(texts)
    with pytest.raises(ValueError, match="these are pairs"):
        writer.write(Examples(["w1"], ["w2"], ["w50"]))
    with pytest.raises(ValueError, match="share in"):
        writer.write(texts, share=0.0)
    with pytest.raises(ValueError, match="to tell one label|to give one label"):
        augment.preserved(base, texts)


def test_diversity_by_hand():
    found = augment.diversity(["a b c", "a b d"], ["a b c", "a b a", "e b"], longest=2)
    assert found["ratio_1"] == pytest.approx(4 / 8) and found["new_1"] == pytest.approx(1 / 4)
    assert found["ratio_2"] == pytest.approx(4 / 5) and found["new_2"] == pytest.approx(2 / 4)
    assert found["changed"] == pytest.approx(2 / 3)
    assert augment.diversity(["a"], [""]) == {f"{k}_{n}": 0.0 for n in (1, 2, 3) for k in ("ratio", "new")} | {
        "changed": 1.0
    }


def test_words_are_left_out_and_swapped_as_eda_does():
    words, rng = [f"x{i}" for i in range(2000)], np.random.default_rng(0)
    less = augment.deleted(words, 0.1, rng)
    assert abs(len(less) / 2000 - 0.9) < 0.03 and less == [w for w in words if w in set(less)]
    assert len(augment.deleted(["a", "b"], 1.0, rng)) == 1 and augment.deleted([], 0.5, rng) == []
    few = [f"x{i}" for i in range(20)]
    moved = augment.swapped(few, 0.1, rng)
    assert sorted(moved) == sorted(few) and 3 <= sum(a != b for a, b in zip(few, moved, strict=True)) <= 4
    assert augment.swapped(["a"], 0.5, rng) == ["a"]
    texts = Examples(["a b c d e", "f"], None, [1, 2])
    new = augment.eda(texts, count=2, share=0.3)
    assert new.label == [1, 1, 2, 2] and new == augment.eda(texts, count=2, share=0.3)
    assert sorted(new.text[1].split()) == list("abcde") and len(augment.together(texts, new)) == 6
    with pytest.raises(ValueError, match="some are not"):
        augment.together(texts, Examples(["a"], ["b"], [1]))
