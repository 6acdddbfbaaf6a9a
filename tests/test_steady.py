"""Steadier tuning: each objective and noise equal to its formula, written again without hooks, for one step."""

import copy
import json
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy import DIM, VOCAB, build, documents, encoder_spec, example, packed, padded, states, wake

from bertsmith import kernels, tap
from bertsmith.corpus.prepare import prepare
from bertsmith.data import data as datas
from bertsmith.divergence import classes, coins, numbers
from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.head import head as heads
from bertsmith.hf.bert import bert_encoder
from bertsmith.layout import Layout
from bertsmith.learner import Learner
from bertsmith.learner import build as build_learner
from bertsmith.linear import edit, graft, load_tensors, tensors, ungraft
from bertsmith.masking import masking as maskings
from bertsmith.objective import objective as objectives
from bertsmith.objective.masked_lm import MaskedLM
from bertsmith.optim import optim as optims
from bertsmith.perturb import Perturbation, new_seed
from bertsmith.pool import pool as pools
from bertsmith.run import Run, Stage
from bertsmith.task import task as tasks
from bertsmith.tokenizer.train import train_wordpiece
from bertsmith.train import train

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order
LENGTHS = (7, 4, 5)


def supervised(kind="single_label", labels=("a", "b", "c"), dropout=0.0):
    head = heads("linear", pool=pools("mean"), dropout=dropout)
    return objectives("supervised", head=head, task=tasks(kind), labels=list(labels))


def learner_of(objective, spec=None):
    """A learner with large weights, in training; the toy encoder has no dropout."""
    return wake(build_learner(spec or encoder_spec(), [], objective, 0)).train()


def batch_of(lengths=LENGTHS, target=(0, 2, 1)):
    """Documents in which no token occurs twice, so that a row of the table is a place."""
    docs = documents(lengths)
    numbers = torch.arange(5, 5 + sum(lengths)).split(list(lengths))
    token, layout = padded([n.clone() for n in numbers])
    assert int(token.max()) < VOCAB and len(docs) == len(lengths)
    return {"token": token, "layout": layout, "target": torch.tensor(target)}


def table_with(encoder, batch, delta_BTD):
    """The encoder's token table with a change for each place: another way to perturb what it gives."""
    table = encoder.embedding.table.weight
    real = batch["layout"].real_BT
    return table.index_add(0, batch["token"][real], delta_BTD[real])


def outputs(learner, batch, table=None):
    """Logits of the learner, with another token table."""
    named = {} if table is None else {"embedding.table.weight": table}
    x = torch.func.functional_call(learner.encoder, named, (batch["token"], batch["layout"]))
    return learner.objective.head(x, batch["layout"])


def gradients(learner, loss):
    learner.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}


def assert_same_gradients(got, want, learner):
    assert got.keys() == want.keys() == {n for n, _ in learner.named_parameters()}
    for name in got:
        # a softmax does not see a key's bias: rounding alone
        scale = 1e-6 if name.endswith("mixer.k.bias") else 1e-4 * want[name].norm() + 1e-6
        assert (got[name] - want[name]).norm() <= scale, name


def sym_kl(a, b):
    """KL(P || Q) + KL(Q || P), the mean over the rows, as the papers write it."""
    p, q = a.softmax(-1), b.softmax(-1)
    return ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)).mean()


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- label smoothing


def test_label_smoothing_is_its_formula():
    rng = np.random.default_rng(0)
    z, y, e = rng.normal(size=(6, 4)), np.array([0, 3, 1, 1, 2, 0]), 0.1
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    q = (1 - e) * np.eye(4)[y] + e / 4
    logits = torch.tensor(z, requires_grad=True)
    loss = tasks("single_label", smoothing=e).build(list("abcd")).loss(logits, torch.from_numpy(y))
    assert loss.item() == pytest.approx(-(q * log_p).sum(1).mean(), rel=1e-6)
    loss.backward()
    np.testing.assert_allclose(logits.grad.numpy(), (np.exp(log_p) - q) / 6, atol=1e-7)


# ---- how far apart predictions are


def softmax_kl(a, b):
    """[N], of rows of logits, as it is written down."""
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (a, b))
    return (p * np.log(p / q)).sum(1)


def coins_kl(a, b):
    p, q = (1 / (1 + np.exp(-x)) for x in (a, b))
    return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(1)


def normal_kl(a, b):
    """Of unit variance; the integral of p log(p / q)."""
    return ((a - b) ** 2).sum(1) / 2


NAN = float("nan")
# task -> (its labels, targets of five rows, KL(P || Q) of a row)
APART = {
    "single_label": (list("abcd"), torch.zeros(5, dtype=torch.long), softmax_kl),
    "multiple_choice": (["score"], torch.zeros(5, dtype=torch.long), softmax_kl),
    "extractive_qa": (["start", "end"], torch.zeros(5, dtype=torch.long), softmax_kl),
    "tagging": (list("ab"), torch.zeros(5, dtype=torch.long), softmax_kl),
    "multi_label": (list("abcd"), torch.eye(5, 4), coins_kl),
    "hierarchy": (list("abcd"), torch.eye(5, 4), coins_kl),
    "ordinal": (list("abcde"), torch.eye(5, 4), coins_kl),
    "regression": (["value"], torch.zeros(5), normal_kl),
    "regressions": (list("abcd"), torch.eye(5, 4), normal_kl),
    "token_regression": (list("abcd"), torch.eye(5, 4), normal_kl),
}


@pytest.mark.parametrize("kind, width", [(kind, n) for kind in APART for n in (1, 4) if (kind, n) != ("regression", 4)])
def test_what_a_prediction_is_the_task_knows(kind, width):
    """Not the target: those of label sets, of one yes-or-no question and of several numbers look alike."""
    labels, target, formula = APART[kind]
    a, b = np.random.default_rng(1).normal(size=(2, 5, width))
    target = target[:, :width] if target.dim() > 1 else target
    far = tasks(kind).build(labels).kl(torch.from_numpy(a), torch.from_numpy(b), target)
    assert far.item() == pytest.approx(formula(a, b).mean(), rel=1e-5, abs=1e-9)


def test_what_is_not_asked_is_not_apart():
    a, b = np.random.default_rng(1).normal(size=(2, 5, 4))
    one, two = torch.from_numpy(a), torch.from_numpy(b)
    some = torch.tensor([0, -100, 1, 2, -100])
    assert classes(one, two, some).item() == pytest.approx(softmax_kl(a, b)[[0, 2, 3]].mean(), rel=1e-5)
    gaps = torch.tensor([[0.0, NAN, 1.0, 2.0]]).repeat(5, 1)
    assert numbers(one, two, gaps).item() == pytest.approx(normal_kl(a[:, [0, 2, 3]], b[:, [0, 2, 3]]).mean(), rel=1e-5)
    for far, target in ((classes, some), (coins, gaps), (numbers, gaps)):
        assert far(one[:0], two[:0], target[:0]) == 0 and far(one, one, target) == 0
    with pytest.raises(ValueError, match="not one row for each"):
        classes(one, two, torch.zeros(4, dtype=torch.long))


def test_tasks_of_several_parts_add_what_their_parts_are_apart():
    rng = np.random.default_rng(2)
    (a, b), (c, d) = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 4, 1))
    whole, yes = torch.zeros(5, dtype=torch.long), torch.ones(4, 1)

    def far(aim, names, targets):
        one, two = ({name: torch.from_numpy(x) for name, x in zip(names, xs, strict=True)} for xs in ((a, c), (b, d)))
        return aim.kl(one, two, dict(zip(names, targets, strict=True))).item()

    related = tasks("relations").build(["PER", "rel:knows"])
    want = softmax_kl(a, b).mean() + coins_kl(c, d).mean()
    assert far(related, ("span", "relation"), (whole, yes)) == pytest.approx(want, rel=1e-5)
    trees = tasks("parsing").build(["root"])
    want = softmax_kl(a, b).mean() + softmax_kl(c, d).mean()
    assert far(trees, ("head", "relation"), (whole, whole[:4])) == pytest.approx(want, rel=1e-5, abs=1e-9)


def test_kl_of_what_cannot_be_chosen_is_finite():
    one = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    two = torch.tensor([[1.0, 0.0, -torch.inf]], requires_grad=True)
    far = classes(one, two, torch.tensor([0]))
    assert far.item() == pytest.approx(classes(one[:, :2], two[:, :2], torch.tensor([0])).item())
    far.backward()
    assert one.grad.isfinite().all() and two.grad.isfinite().all()


# task -> (its labels, targets of three texts, KL(P || Q) of a row)
STEADY = {
    "multi_label": (list("abc"), torch.eye(3), coins_kl),
    "ordinal": (["low", "high"], torch.tensor([[0.0], [1.0], [1.0]]), coins_kl),
    "regression": (["value"], torch.tensor([0.3, 1.0, -2.0]), normal_kl),
    "regressions": (list("abc"), torch.eye(3), normal_kl),
}


@pytest.mark.parametrize("task", STEADY)
@pytest.mark.parametrize("kind, asked", [("rdrop", "apart"), ("sift", "apart"), ("smart", "rough"), ("r3f", "apart")])
def test_objectives_that_steady_measure_as_the_task_says(kind, asked, task):
    """What they say is apart, from the logits that they saw, in plain NumPy."""
    labels, target, formula = STEADY[task]
    settings = {"rdrop": {}, "sift": {"start": 0.3, "rate": 0.2}, "r3f": {"radius": 0.3}}
    settings["smart"] = {"mu": 0.0, "start": 0.2, "radius": 0.4, "rate": 0.3}
    inner = supervised(task, labels, dropout=0.3 if kind == "rdrop" else 0.0)
    learner = learner_of(objectives(kind, inner=inner, **settings[kind]))
    seen, real = [], learner.objective.inner.predict

    def predict(encoder, batch):
        seen.append(real(encoder, batch))
        return seen[-1]

    learner.objective.inner.predict = predict
    with kernels.seeded(1):
        out = learner.objective(learner.encoder, batch_of() | {"target": target})
    first, last = (seen[i][0].detach().double().numpy() for i in (0, -1))
    want = (formula(first, last) + formula(last, first)).mean() / (2 if kind == "rdrop" else 1)
    assert out[asked].item() == pytest.approx(want, rel=1e-4) and want > 1e-4
    assert out["loss"] > out["task"]


# ---- HyPe


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_hype_is_noise_on_what_enters_each_layer(kind):
    encoder, (token, layout) = build(encoder_spec()), padded(documents())
    before = encoder(token, layout)
    graft(encoder, "layers.*", grafts("hype", scale=0.1, noise=kind))
    assert torch.equal(encoder(token, layout), before)
    encoder.train()
    with kernels.seeded(3):
        got = encoder(token, layout)
    with kernels.seeded(3):
        inside = encoder.prepare(token, layout)
        x = encoder.embedding(token, inside)
        for layer in encoder.layers:
            rng, e = torch.Generator().manual_seed(new_seed()), torch.empty_like(x)
            e = e.uniform_(-1, 1, generator=rng) if kind == "uniform" else e.normal_(generator=rng)
            x = type(layer).forward(layer, x + 0.1 * e, inside)
        want = encoder.norm(x, inside)
    torch.testing.assert_close(states(got, layout), states(want, layout), **CLOSE)
    assert (got - before).abs().max() > 0.01
    with kernels.seeded(3):
        assert torch.equal(encoder(token, layout), got)
    with kernels.seeded(4):
        assert not torch.allclose(encoder(token, layout), got, atol=1e-3)
    got.square().sum().backward()
    ungraft(encoder, "hype")
    assert torch.equal(encoder(token, layout), before)


@pytest.mark.parametrize("kind, spread", [("uniform", 0.5 / 3**0.5), ("normal", 0.5)])
def test_hypes_noise_has_the_size_that_is_said(kind, spread):
    method = grafts("hype", scale=0.5, noise=kind).build(nn.Identity(), "layers.0", DIM, 2)
    x = torch.zeros(20, 50, DIM)
    with kernels.seeded(0):
        e = method(lambda y: y, x)
    assert abs(e.mean()) < 0.02 and abs(e.std() / spread - 1) < 0.03
    assert kind == "normal" or 0.49 < e.abs().max() <= 0.5
    with pytest.raises(ValueError, match="uniform or normal"):
        grafts("hype", noise="pink").build(nn.Identity(), "layers.0", DIM, 2)


# ---- perturbations


def test_a_perturbation_is_added_inside_and_leaves_no_trace():
    encoder, batch = build(encoder_spec()), batch_of()
    token, layout = batch["token"], batch["layout"]
    before, delta = encoder(token, layout), noise(0, *batch["token"].shape, DIM) * batch["layout"].real_BT[..., None]
    nudge = Perturbation(encoder, lambda x, place, rng: delta)
    with nudge.applied():
        moved = encoder(token, layout)
    learner = Learner(encoder, nn.Module())
    want = torch.func.functional_call(
        learner.encoder, {"embedding.table.weight": table_with(encoder, batch, delta)}, (token, layout)
    )
    torch.testing.assert_close(states(moved, layout), states(want, layout), **CLOSE)
    assert torch.equal(encoder(token, layout), before)
    hooks = [m for m in encoder.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
    with pytest.raises(RuntimeError, match="not called"), nudge.applied():
        pass
    with pytest.raises(ValueError, match="embedding.norms"):
        Perturbation(encoder, lambda x, place, rng: x, at="norms")


def test_a_perturbation_is_of_one_thread():
    encoder, (token, layout) = build(encoder_spec()), padded(documents())
    alone, found, gate = encoder(token, layout), [], threading.Barrier(2)

    def other():
        gate.wait()
        found.append(encoder(token, layout))
        gate.wait()

    thread = threading.Thread(target=other)
    thread.start()
    nudge = Perturbation(encoder, lambda x, place, rng: torch.ones_like(x).cumsum(-1))
    with nudge.applied():
        gate.wait()
        mine = encoder(token, layout)
        gate.wait()
    thread.join()
    assert torch.equal(found[0], alone) and not torch.allclose(mine, alone, atol=1e-2)


def test_a_perturbation_of_an_encoder_that_reads_in_segments_has_a_part_for_each():
    encoder, (token, layout) = build(example("encoder", "recurrent")), padded(documents())
    nudge = Perturbation(encoder, lambda x, place, rng: torch.zeros_like(x))
    with nudge.applied():
        loss = encoder(token, layout)[layout.real_BT].square().sum()
    assert [d.shape[1] for d in nudge.deltas] == [4, 4, 1]
    nudge.climb(loss, lambda delta, grad, place: delta + grad)
    assert all(d.abs().max() > 0 and d.requires_grad and d.is_leaf for d in nudge.deltas)


# ---- FreeLB


def test_freelb_is_its_formula():
    learner = learner_of(objectives("freelb", inner=supervised(), steps=3, rate=0.3, start=0.0, radius=0.5))
    batch = batch_of()
    layout, real = batch["layout"], batch["layout"].real_BT[..., None]
    with kernels.seeded(0):
        out = learner.objective(learner.encoder, batch)
    got = gradients(learner, out["loss"])
    delta, losses = torch.zeros(*batch["token"].shape, DIM), []
    for _ in range(3):
        delta.requires_grad_()
        losses.append(
            F.cross_entropy(outputs(learner, batch, table_with(learner.encoder, batch, delta)), batch["target"])
        )
        (g,) = torch.autograd.grad(losses[-1], delta, retain_graph=True)
        g = g * real
        delta = (delta + 0.3 * g / g.flatten(1).norm(dim=1)[:, None, None]).detach()
        size = delta.flatten(1).norm(dim=1)[:, None, None]
        delta = torch.where(size > 0.5, delta * 0.5 / size, delta)
    want = gradients(learner, sum(losses) / 3)
    torch.testing.assert_close(out["loss"].detach(), (sum(losses) / 3).detach(), **CLOSE)
    assert losses[0] < losses[1] < losses[2] and out["first"] < out["last"]
    assert_same_gradients(got, want, learner)
    assert layout.scratch == {}
    half = gradients(learner, learner.objective(learner.encoder, batch)["loss"] / 2)
    assert_same_gradients({n: 2 * g for n, g in half.items()}, want, learner)


def test_freelbs_first_perturbation_has_the_size_that_is_said():
    learner = learner_of(objectives("freelb", inner=supervised(), start=0.6))
    docs = documents((60, 12, 30))
    for token, layout in (padded(docs), packed(docs, [[0, 1], [2]], 80)):
        nudge = Perturbation(learner.encoder, learner.objective._first)
        with nudge.applied():
            learner.encoder(token, layout)
        delta = nudge.deltas[0]
        assert not delta[~layout.real_BT].any()
        norms = layout.sum_CD(delta.square().sum(-1, keepdim=True), layout.real_BT).sqrt()[:, 0]
        # n D uniform numbers in +-s / sqrt(n D): a norm of s / sqrt(3)
        assert ((norms * 3**0.5 / 0.6 - 1).abs() < 0.1).all()


def test_freelb_drops_the_same_in_every_pass_and_is_the_same_packed():
    spec = encoder_spec().replace("blocks.*.residual.dropout", 0.3)
    learner = learner_of(objectives("freelb", inner=supervised(dropout=0.3), rate=0.0, start=0.0), spec)
    batch = batch_of()
    with kernels.seeded(0):
        out = learner.objective(learner.encoder, batch)
    assert out["first"] == out["last"] == out["loss"]
    with kernels.seeded(1):
        assert learner.objective(learner.encoder, batch)["loss"] != out["loss"]
    learner = learner_of(objectives("freelb", inner=supervised(), start=0.0, radius=0.06))
    docs = documents()
    loss = [learner.objective(learner.encoder, {"token": t, "layout": x, "target": batch["target"]})["loss"]
            for t, x in (padded(docs), packed(docs, [[0, 1], [2]], 16))]  # fmt: skip
    torch.testing.assert_close(*loss, **CLOSE)


def test_what_pieces_say_counts_once_in_freelb():
    learner = learner_of(objectives("freelb", inner=supervised(), start=0.0, rate=0.0), encoder_spec("ffn", "moe"))
    batch = batch_of()
    with tap.heard() as extra:
        plain = learner.objective.inner(learner.encoder, batch)["loss"] + sum(extra.values())
    want = gradients(learner, plain)
    with tap.heard() as extra:
        out = learner.objective(learner.encoder, batch)
    assert not extra
    torch.testing.assert_close(out["loss"], plain, **CLOSE)
    for name, g in gradients(learner, out["loss"]).items():
        torch.testing.assert_close(g, want[name], rtol=1e-3, atol=1e-5)


# ---- SiFT


def by_norm(learner, batch, delta):
    """Logits where what the embedding's norm takes is normalised, moved, and cut off from the embedding."""
    encoder, layout = learner.encoder, learner.encoder.prepare(batch["token"], batch["layout"])
    e = encoder.embedding
    x = e.table(batch["token"]) + e.types(layout.type_BT)
    x = F.layer_norm(e.position.add(x, layout), (DIM,))
    x = e.norm(x.detach() + delta, layout)
    return learner.objective.head(encoder.run(x, layout)[-1], layout)


def test_sift_is_its_formula():
    settings = {"weight": 2.0, "rate": 0.2, "start": 0.3, "ascents": 2}
    learner = learner_of(objectives("sift", inner=supervised(), **settings))
    batch = batch_of()
    real = batch["layout"].real_BT[..., None]
    with kernels.seeded(5):
        out = learner.objective(learner.encoder, batch)
    got = gradients(learner, out["loss"])
    with kernels.seeded(5):
        rng = torch.Generator().manual_seed(new_seed())
    delta = torch.empty(*batch["token"].shape, DIM).normal_(0, 0.3, generator=rng).clamp(-0.6, 0.6) * real
    clean = outputs(learner, batch)

    def apart(moved, target):
        """As in the authors' code: the probabilities are constants; their entropies are constants too."""
        log_p, log_q = moved.log_softmax(-1), target.log_softmax(-1)
        forward = (log_q.exp().detach() * (log_q.detach() - log_p)).sum(-1)
        back = (log_p.exp().detach() * (log_p.detach() - log_q)).sum(-1)
        return forward + back

    for _ in range(2):
        delta.requires_grad_()
        (g,) = torch.autograd.grad(apart(by_norm(learner, batch, delta), clean.detach()).sum(), delta)
        delta = ((delta + 0.2 * g / (1e-6 + g.abs().max(-1, keepdim=True)[0])) * real).detach()
    far = apart(by_norm(learner, batch, delta), clean).mean()
    loss = F.cross_entropy(clean, batch["target"]) + 2 * far
    torch.testing.assert_close(out["loss"], loss, **CLOSE)
    torch.testing.assert_close(out["apart"], far.detach(), **CLOSE)
    assert far > 1e-3
    assert_same_gradients(got, gradients(learner, loss), learner)


def test_sift_does_not_depend_on_the_scale_of_the_embeddings():
    learner = learner_of(objectives("sift", inner=supervised(), start=0.3, rate=0.2))
    batch = batch_of()
    with kernels.seeded(0):
        one = learner.objective(learner.encoder, batch)
    embedding = learner.encoder.embedding
    with torch.no_grad():
        for table in (embedding.table.weight, embedding.types.weight, embedding.position.table.weight):
            table.mul_(7)
    with kernels.seeded(0):
        two = learner.objective(learner.encoder, batch)
    torch.testing.assert_close(two["apart"], one["apart"], **CLOSE)
    assert one["apart"] > 1e-3


# ---- SMART


def test_smart_is_its_formula():
    settings = {"weight": 3.0, "mu": 0.7, "radius": 0.4, "start": 0.2, "rate": 0.3, "ascents": 2}
    learner = learner_of(objectives("smart", inner=supervised(), **settings))
    batch = batch_of()
    real = batch["layout"].real_BT[..., None]
    teacher = copy.deepcopy(learner)
    learner.objective(learner.encoder, batch)  # the copy takes the values of now
    wake(learner, seed=9)
    for p, q in zip(learner.parameters(), teacher.parameters(), strict=True):
        p.data.lerp_(q.data, 0.5)
    learner.objective.step(0.05)
    with kernels.seeded(5):
        out = learner.objective(learner.encoder, batch)
    got = gradients(learner, out["loss"])
    with kernels.seeded(5):
        rng = torch.Generator().manual_seed(new_seed())
    delta = torch.empty(*batch["token"].shape, DIM).normal_(0, 0.2, generator=rng) * real
    clean = outputs(learner, batch)
    for _ in range(2):
        delta.requires_grad_()
        moved = outputs(learner, batch, table_with(learner.encoder, batch, delta))
        (g,) = torch.autograd.grad(sym_kl(moved, clean.detach()), delta)
        step = torch.where(real, g / g.abs().max(-1, keepdim=True)[0], 0)
        delta = (delta + 0.3 * step).clamp(-0.4, 0.4).detach()
    rough = sym_kl(outputs(learner, batch, table_with(learner.encoder, batch, delta)), clean)
    with torch.no_grad():
        for q, p in zip(teacher.parameters(), learner.parameters(), strict=True):
            q.copy_(0.99 * q + 0.01 * p)
        slow = outputs(teacher.eval(), batch)
    far = sym_kl(clean, slow)
    loss = F.cross_entropy(clean, batch["target"]) + 3 * rough + 0.7 * far
    for name, want in (("rough", rough), ("far", far), ("loss", loss)):
        torch.testing.assert_close(out[name].detach(), want.detach(), **CLOSE)
    assert rough > 1e-3 and far > 1e-3
    assert_same_gradients(got, gradients(learner, loss), learner)


def test_smart_for_numbers_is_the_squared_distance():
    learner = learner_of(
        objectives("smart", inner=supervised("regression", ["value"]), mu=0.0, start=0.1, radius=0.5, rate=0.3)
    )
    batch = batch_of() | {"target": torch.tensor([0.5, -1.0, 2.0])}
    seen = []
    with kernels.seeded(1):
        out = learner.objective(learner.encoder, batch)
    real = learner.objective.inner.predict
    learner.objective.inner.predict = lambda *given: (seen.append(real(*given)), seen[-1])[1]
    with kernels.seeded(1):
        learner.objective(learner.encoder, batch)
    clean, _, moved = (logits for logits, _ in seen)
    torch.testing.assert_close(out["rough"], (clean - moved).square().mean().detach(), **CLOSE)


def test_the_slower_copy_is_saved_resumed_and_no_parameter():
    spec, make = encoder_spec(), objectives("smart", inner=supervised(), mu=1.0, momentum=[0.5, 0.9])

    def go(learner, steps, begin):
        optimiser = torch.optim.SGD(learner.parameters(), lr=0.1)
        for i in range(begin, begin + steps):
            learner.objective.step(i / 10)
            with kernels.seeded(0, i):
                learner.objective(learner.encoder, batch_of())["loss"].backward()
            optimiser.step()
            optimiser.zero_grad()
        return learner

    whole = go(learner_of(make), 6, 0)
    first = go(learner_of(make), 3, 0)
    assert all("teacher" not in n for n, _ in first.named_parameters())
    held = {k: v.detach().clone() for k, v in tensors(first).items()}
    assert any("teacher" in k for k in held)
    again = build_learner(spec, [], make, 1).train()
    load_tensors(again, held)
    go(again, 3, 3)
    assert all(torch.equal(v, tensors(whole)[k]) for k, v in tensors(again).items())
    names = {k for k in tensors(whole) if not k.startswith("objective.teacher")}
    assert names == set(tensors(build_learner(spec, [], objectives("smart", inner=supervised(), mu=0.0), 0)))


def test_the_slower_copy_moves_by_its_momentum():
    learner = learner_of(objectives("smart", inner=supervised(), momentum=[0.5, 0.9]))
    batch, weight = batch_of(), learner.encoder.layers[0].mixer.q.weight
    value = lambda: dict(learner.objective.teacher.named_buffers())["copy.encoder.layers.0.mixer.q.weight"]  # noqa: E731
    expected = None
    for progress, beta in ((0.0, 0.0), (0.05, 0.5), (0.1, 0.9), (0.9, 0.9)):
        weight.data.add_(1.0)
        learner.objective.step(progress)
        for _ in range(2):  # two micro-batches, one step
            learner.objective(learner.encoder, batch)
        expected = weight.detach().clone() if expected is None else beta * expected + (1 - beta) * weight.detach()
        torch.testing.assert_close(value(), expected, **CLOSE)
    learner.encoder.bfloat16()
    assert value().dtype == torch.float32


def test_the_slower_copy_refuses_edits_that_train():
    learner = learner_of(objectives("smart", inner=supervised()))
    edit(learner.encoder, "**.mixer.q", edits("lora", rank=2))
    with pytest.raises(ValueError, match="lora"):
        learner.objective(learner.encoder, batch_of())
    learner = learner_of(objectives("smart", inner=supervised(), mu=0.0))
    edit(learner.encoder, "**.mixer.q", edits("lora", rank=2))
    assert learner.objective(learner.encoder, batch_of())["loss"].isfinite()


# ---- all of them


@pytest.mark.parametrize("kind", ["freelb", "sift", "smart"])
@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_around_other_tasks(kind, task):
    labels = ["value"] if task == "regression" else ["a", "b", "c"]
    target = torch.tensor([0.3, 1.0, -2.0]) if task == "regression" else torch.eye(3)
    learner = learner_of(objectives(kind, inner=supervised(task, labels)))
    out = learner.objective(learner.encoder, batch_of() | {"target": target})
    got = gradients(learner, out["loss"])
    assert out["loss"].isfinite() and all(g.isfinite().all() for g in got.values())
    assert set(got) == {n for n, _ in learner.named_parameters()}


@pytest.mark.parametrize("kind", ["freelb", "sift", "smart"])
def test_a_pass_without_gradients_has_the_same_loss_and_leaves_none(kind):
    """What looks for the origin of a bad number."""
    learner, batch = learner_of(objectives(kind, inner=supervised())), batch_of()
    with kernels.seeded(0):
        want = learner.objective(learner.encoder, batch)["loss"]
    with kernels.seeded(0), torch.no_grad():
        got = learner.objective(learner.encoder, batch)["loss"]
    assert torch.equal(got, want) and not got.requires_grad
    assert all(p.grad is None for p in learner.parameters())


@pytest.mark.parametrize("kind, settings", [("freelb", {"steps": 0}), ("freelb", {"rate": -1.0}), ("sift", {"start": 0.0}),
                                            ("sift", {"ascents": 0}), ("smart", {"momentum": [1.0, 0.5]}),
                                            ("smart", {"mu": -1.0})])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"objective/{kind}"):
        objectives(kind, inner=supervised(), **settings).build(build(encoder_spec()))


def test_where_nothing_goes_back_to_the_embedding_it_is_said():
    learner = learner_of(objectives("freelb", inner=supervised()))
    real = learner.encoder.states
    learner.encoder.states = lambda *given: [x.detach() for x in real(*given)]
    with pytest.raises(ValueError, match="nothing goes back to the embedding"):
        learner.objective(learner.encoder, batch_of())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twenty short documents of a made-up language in which words follow one another."""
    root, words = tmp_path_factory.mktemp("corpus"), ["ba", "be", "bi", "bo", "bu", "da", "de", "di"]
    lines = [" ".join(words[(at + i) % 8] for i in range(20 + at)) for at in range(20)]
    (root / "text.txt").write_text("\n\n".join(lines))
    train_wordpiece([root / "text.txt"], 50, root / "tokenizer")
    prepare([root / "text.txt"], root / "data", root / "tokenizer", 0)
    return root / "data"


def test_through_the_loop_interrupted_they_end_as_if_never_interrupted(corpus, tmp_path, monkeypatch):
    vocab = json.loads((corpus / "manifest.json").read_text())["vocabulary"]
    plain = objectives("masked_lm", masking=maskings("bert"))
    common = {"data": datas("packed", path=str(corpus), length=32, rows=4), "budget": "3-steps"}
    common |= {"optim": optims("adamw", lr=3e-3)}
    hype = {"how": "graft", "where": "layers.*", "name": "hype", "spec": grafts("hype", scale=0.1)}
    stages = [Stage(objectives(kind, inner=plain), accumulate=2, **common) for kind in ("smart", "freelb")]
    stages.append(Stage(plain, changes=[hype], leave="drop", **common))
    run = Run(bert_encoder(1, 16, 2, vocab, length=32, dropout=0.1), stages, 1, "fp32", workers=0, save_steps=2)
    whole = train(run, tmp_path / "whole", progress=False)
    real, calls, stops = MaskedLM.predict, 0, {21, 45}

    def stumble(self, encoder, batch):
        nonlocal calls
        calls += 1
        if calls in stops:
            raise KeyboardInterrupt
        return real(self, encoder, batch)

    monkeypatch.setattr(MaskedLM, "predict", stumble)
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            train(run, tmp_path / "cut", progress=False)
    again = train(run, tmp_path / "cut", progress=False)
    assert whole.tensors.keys() == again.tensors.keys() and not again.changes
    assert all(torch.equal(v, again.tensors[k]) for k, v in whole.tensors.items())


# ---- NMTune


def test_nmtunes_loss_is_its_formula():
    pool = pools("nmtune", pool=pools("mean"), weight=0.3).build(DIM).train()
    wake(pool)
    token, layout = padded(documents((9, 6, 4, 7, 3)))
    x = noise(0, *token.shape, DIM).requires_grad_()
    with tap.heard() as extra:
        z = pool(x, layout)
    f = np.stack([x[b, : int(n)].detach().numpy().mean(0) for b, n in enumerate(layout.real_BT.sum(1))]).astype(
        np.float64
    )
    w = {n: p.detach().numpy().astype(np.float64) for n, p in pool.named_parameters()}
    hidden = np.maximum(f @ w["transform.up.weight"].T + w["transform.up.bias"], 0)
    want = hidden @ w["transform.down.weight"].T + w["transform.down.bias"]
    np.testing.assert_allclose(z.detach().numpy(), want, rtol=1e-4, atol=1e-5)
    unit = [y / np.linalg.norm(y, axis=1, keepdims=True) for y in (want, f)]
    cov = np.cov(want.T)
    values = np.linalg.svd(want, compute_uv=False)
    loss = np.mean((unit[0] - unit[1]) ** 2) + (cov**2)[~np.eye(DIM, dtype=bool)].sum() / DIM - values[0] / values.sum()
    assert extra["nmtune"].item() == pytest.approx(0.3 * loss, rel=1e-4)
    extra["nmtune"].backward()
    assert all(p.grad.abs().max() > 0 for p in pool.parameters())
    pool.eval()
    with tap.heard() as extra:
        pool(x, layout)
    assert not extra


def test_nmtune_reshapes_the_space_of_a_frozen_encoder():
    """Beside a task, the directions of what is learned are less correlated than without the loss."""
    f = noise(0, 40, DIM) @ noise(1, DIM, DIM)
    layout, apart = Layout.padded(torch.ones(40, 1)), {}
    for weight in (0.0, 1.0):
        pool = pools("nmtune", weight=weight).build(DIM).train()
        wake(pool)
        optimiser = torch.optim.Adam(pool.parameters(), lr=1e-2)
        for _ in range(60):
            with tap.heard() as extra:
                z = pool(f[:, None], layout)
                loss = F.mse_loss(z, f) + sum(extra.values())
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        corr = torch.corrcoef(z.detach().T)
        apart[weight] = (corr - torch.eye(DIM)).square().mean().sqrt().item()
    assert apart[1.0] < 0.7 * apart[0.0], apart


def test_the_optimisers_closure_takes_a_loss_with_known_gradients():
    learner = learner_of(objectives("freelb", inner=supervised()))
    optimiser, batch = optims("adamw", lr=1e-2).build(dict(learner.named_parameters())), batch_of()

    def closure():
        with kernels.seeded(0):
            loss = learner.objective(learner.encoder, batch)["loss"]
        loss.backward()
        return loss.item()

    losses = []
    for _ in range(15):
        losses.append(optimiser.step(closure, 1.0))
        learner.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
