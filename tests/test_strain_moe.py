"""SMoE-Dropout, BiGS and SLAB's attention: the formulas, and each claim with a number, which fails without the piece."""

import numpy as np
import pytest
import torch
from toy import DIM, corrupted, documents, encoder_spec, example, language, packed, padded, wake

from bertsmith.core import core
from bertsmith.ffn import ffn
from bertsmith.init import init as inits
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.mixer import mixer
from bertsmith.spec import Spec

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 against float64


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layout(rows=2, width=6):
    return Layout.padded(torch.ones(rows, width))


# ---- SMoE-Dropout


def smoe(dim=DIM, hidden=8, seed=0, **settings):
    torch.manual_seed(seed)
    return ffn("smoe_dropout", expert=ffn("mlp", hidden=hidden), **settings).build(dim)


def test_smoe_dropout_is_its_formula():
    one, x = wake(smoe(experts=5, active=3)), draws(2, 6, DIM)
    like = x.double().numpy() @ one.router.double().numpy().T
    want = np.zeros((2, 6, DIM))
    for b in range(2):
        for t in range(6):
            best = np.argsort(-like[b, t])[:3]
            gate = np.exp(like[b, t, best])
            for p, i in zip(gate / gate.sum(), best, strict=True):
                want[b, t] += p * one.experts[i](x[b : b + 1, t : t + 1], layout(1, 1))[0, 0].detach().numpy()
    np.testing.assert_allclose(one(x, layout()).detach(), want, **CLOSE)
    keep = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    use, gate = torch.rand(2, 6, 5) < 0.5, draws(2, 6, 5)
    use = use & (keep[..., None] > 0)
    gate = torch.where(use, gate, 0)
    two = [f(x, gate, use, Layout.padded(keep)) for f in (one._everywhere, one._where_chosen)]
    torch.testing.assert_close(*two, **CLOSE)
    assert not one(x, Layout.padded(torch.zeros(2, 6))).any()


def test_the_number_of_experts_grows_to_all_and_stays():
    one = smoe(experts=4, top=2)
    seen = []
    for progress in (0.0, 0.3, 0.34, 0.66, 0.67, 0.99, 1.0, 0.0):
        one.step(progress)
        seen.append(one.reached.item())
    assert seen == [2, 2, 3, 3, 4, 4, 4, 4]
    assert "router" in one.state_dict() and not [n for n, _ in one.named_parameters() if "router" in n]
    for settings in ({"top": 5}, {"active": 5}):
        with pytest.raises(ValueError, match="top lies in 1 to 4, active in 0 to 4"):
            smoe(experts=4, **settings)


def test_smoe_dropout_is_self_slimmable():
    """Fig. 4's claim: more experts than before at test, better outputs; trained with one expert all along, worse ones."""

    def losses(grows):
        one, other = smoe(8, 16, experts=4), smoe(8, 32, seed=1, experts=1)
        wake(other, seed=3)
        optimiser, place = torch.optim.Adam(one.parameters(), 2e-2), layout(8, 16)
        before, steps = one.router.clone(), 150
        for i in range(steps):
            if grows:
                one.step(i / steps)
            x = draws(8, 16, 8, seed=i)
            optimiser.zero_grad()
            (one(x, place) - 3 * other(x, place).detach()).square().mean().backward()
            optimiser.step()
        assert torch.equal(one.router, before), "the router is never trained"
        x, got = draws(8, 16, 8, seed=999), []
        for one.active in (1, 2, 3, 4):
            with torch.no_grad():
                got.append((one(x, place) - 3 * other(x, place)).square().mean().item())
        return got

    def holds(grows):
        got = losses(grows)
        return all(more < fewer for fewer, more in zip(got, got[1:], strict=False))

    assert holds(grows=True) and not holds(grows=False)


# ---- BiGS


def bigs(dim=DIM, **settings):
    torch.manual_seed(0)
    one = mixer("bigs", **settings).build(dim, 2)
    with torch.no_grad():
        for name, p in one.named_parameters():
            if name.endswith("weight"):
                p.copy_(0.5 * draws(*p.shape, seed=len(name)))
    return one


def gelu(x):
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def scan(model, x):
    """The recurrence, place after place: h = exp(d A) h + (exp(d A) - 1) / A x, y = Re(C h) + D x; x [L, D]."""
    w = {k: v.detach().double().numpy() for k, v in model.named_parameters()}
    a, d = w["rate"] + 1j * w["frequency"], np.exp(w["log_step"])
    c = w["readout"][:, 0] + 1j * w["readout"][:, 1]
    h, y = np.zeros((len(a), x.shape[1]), complex), np.zeros_like(x)
    for t in range(len(x)):
        h = np.exp(d * a)[:, None] * h + ((np.exp(d * a) - 1) / a)[:, None] * x[t]
        y[t] = (c @ h).real + w["skip"] * x[t]
    return y


def formula(one, x):
    """Eq. of the gated layer for one document [L, D]."""
    w = {k: v.detach().double().numpy() for k, v in one.named_parameters()}
    linear = lambda name, x: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # noqa: E731
    v, f, b = (gelu(linear(n, x)) for n in ("v", "f", "b"))
    both = linear("f_out", scan(one.forwards, f)) * linear("b_out", scan(one.backwards, b[::-1])[::-1])
    return linear("out", gelu(linear("u", both)) * v)


def test_bigs_by_convolution_is_its_recurrence_also_where_documents_are_packed():
    one, lengths = bigs(states=6), (9, 6, 4)
    docs = documents(lengths)
    x = draws(50, DIM, seed=2)
    for token, place in (padded(docs), packed(docs, [[0, 1], [2]], 16)):
        got = one(x[token], place).detach()
        where = [(0, 1), (1, 1), (2, 1)] if len(token) == 3 else [(0, 1), (0, 2), (1, 1)]
        for (row, segment), document in zip(where, docs, strict=True):
            want = formula(one, x[document].double().numpy())
            np.testing.assert_allclose(got[row, place.segment_BT[row] == segment], want, rtol=1e-3, atol=1e-5)


def test_bigs_reads_both_ways_and_far():
    """The first of 300 tokens and the last see each other; with both models reading forwards the first sees nothing."""

    def holds(both_ways):
        one = bigs(states=8)
        with torch.no_grad():
            for model in (one.forwards, one.backwards):
                model.log_step.fill_(np.log(0.01))  # exp(-0.01 * 300 / 2) is left over 300 places
        if not both_ways:
            read = type(one.backwards).forward
            one.backwards.forward = lambda x, backwards: read(one.backwards, x, False)
        x, place = draws(1, 300, DIM), layout(1, 300)
        y, effect = one(x, place), []
        for changed, seen in ((0, -1), (-1, 0)):
            other = x.clone()
            other[0, changed] += 1
            effect.append((one(other, place) - y)[0, seen].abs().max().item())
        return min(effect) > 1e-4

    assert holds(both_ways=True) and not holds(both_ways=False)


def test_bigs_made_for_short_texts_runs_on_4096_tokens():
    """No table of places and no T x T scores: the same weights, by FFT equal to the recurrence over 4,096 places."""
    one = bigs(4, states=3)
    x = draws(4096, 4, seed=5)
    got = one(x[None], layout(1, 4096))[0].detach()
    # an FFT of 8,192 places in float32
    np.testing.assert_allclose(got, formula(one, x.double().numpy()), rtol=1e-2, atol=1e-4)


def test_bigs_learns_masked_words_and_goes_on_where_texts_are_longer():
    """The loss falls, with no position but the recurrence's, and goes on falling on texts 8 times as long."""
    block = {"kind": "block/single", "mixer": {"kind": "mixer/bigs", "states": 8}}
    spec = encoder_spec().replace(
        "blocks.*", Spec.from_dict(block | {"residual": example("residual", "pre").to_dict()})
    )
    # at width 16 a start of 0.02 leaves nothing of a product of two
    spec = spec.replace("embedding.position", example("position", "none")).replace("init", inits("normal", std=0.25))
    learner = build_learner(spec, [], example("objective", "masked_lm"), 0)
    optimiser, losses = torch.optim.AdamW(learner.parameters(), 1e-2), []
    for i, width in enumerate([12] * 60 + [96] * 20):
        batch = corrupted(learner.objective, language(16, i, width), i)
        loss = learner.objective(learner.encoder, batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    first, short, long = np.mean(losses[:5]), np.mean(losses[55:60]), np.mean(losses[-5:])
    assert short < 0.8 * first and long < short


def test_bigs_reads_another_source():
    one, x = bigs(states=4), draws(2, 6, DIM)
    other = draws(2, 6, DIM, seed=1)
    got = one(x, layout(), (other, layout()))
    assert not torch.allclose(got, one(x, layout())) and got.shape == x.shape
    with pytest.raises(ValueError, match="a source of the same 6 tokens, not of 4"):
        one(x, layout(), (other[:, :4], layout(2, 4)))


# ---- SLAB's attention


def attend(kind, v, q, k, place):
    one = wake(core(kind).build(2, 4, 0.0))
    return one, one(q, k, v, None, 0.5, place)


def test_simplified_linear_attention_is_its_formula():
    q, k, v = (draws(2, 2, 6, 4, seed=i) for i in range(3))
    keep = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    one, got = attend("simplified_linear", v, q, k, Layout.padded(keep))
    w, bias = one.taps.weight.detach().numpy(), one.taps.bias.detach().numpy()
    for b, long in ((0, 6), (1, 4)):
        fq, fk, fv = (
            np.maximum(q[b, :, :long].numpy(), 0),
            np.maximum(k[b, :, :long].numpy(), 0),
            v[b, :, :long].numpy(),
        )
        score = np.einsum("nth,nsh->nts", fq, fk)
        want = score / (score.sum(-1, keepdims=True) + 1e-6) @ fv + bias
        wide = np.pad(fv, ((0, 0), (2, 2), (0, 0)))
        want += sum(w[:, j] * wide[:, j : j + long] for j in range(5))
        np.testing.assert_allclose(got[b, :, :long].detach(), want, **CLOSE)
    for settings in ((0.1, 5), (0.0, 4)):
        with pytest.raises(ValueError, match="takes no dropout .* and an odd number of taps"):
            core("simplified_linear", kernel=settings[1]).build(2, 4, settings[0])


def test_the_convolution_gives_back_the_rank():
    """Linear attention of head width 4 maps 12 values with rank 4 at most; with the convolution the map has full rank."""

    def holds(kind):
        q, k = draws(1, 2, 12, 4), draws(1, 2, 12, 4, seed=1)
        one = wake(core(kind).build(2, 4, 0.0))
        read = lambda v: one(q, k, v, None, 0.5, layout(1, 12))[0, 0, :, 0].detach()  # noqa: E731
        zero = read(torch.zeros(1, 2, 12, 4))
        columns = []
        for s in range(12):
            v = torch.zeros(1, 2, 12, 4)
            v[0, 0, s, 0] = 1
            columns.append((read(v) - zero).double().numpy())
        return np.linalg.matrix_rank(np.stack(columns, 1), tol=1e-4) == 12

    assert holds("simplified_linear") and not holds("linear")
