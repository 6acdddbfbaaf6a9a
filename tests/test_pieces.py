"""What is peculiar to single methods: the paper's formula written again in NumPy, and what a method must refuse."""

import numpy as np
import pytest
import torch
from toy import DIM, both, build, corrupted, encoder_spec, example, language, states, wake

from bertsmith import kernels, tap
from bertsmith.edit import edit as edits
from bertsmith.ffn import ffn
from bertsmith.graft import graft as grafts
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.linear import graft, load_tensors, tensors
from bertsmith.norm import norm
from bertsmith.objective import objective as objectives
from bertsmith.position import position
from bertsmith.resize import resize
from bertsmith.select import select

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32 against float64


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layout(rows=2, width=6):
    return Layout.padded(torch.ones(rows, width))


def equal(got, want):
    np.testing.assert_allclose(got.detach().numpy(), want, **CLOSE)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- edits, selections, resizes


def test_lora_adds_alpha_over_r_times_b_a():
    weight = draws(5, 7)
    one = edits("lora", rank=3, alpha=6.0).build(weight)
    assert one.a.shape == (3, 7) and one.b.shape == (5, 3) and not one.b.any()
    wake(one)
    got, bias = one(weight, None)
    equal(got, weight.numpy() + 6 / 3 * one.b.detach().numpy() @ one.a.detach().numpy())
    assert bias is None
    with pytest.raises(ValueError, match="rank is at least 1, not 0"):
        edits("lora", rank=0).build(weight)
    with pytest.raises(ValueError, match="no init 'zero'; there are: kaiming, gaussian"):
        edits("lora", init="zero").build(weight)


def test_bitfit_and_its_smaller_set():
    learner = build_learner(encoder_spec(), [], example("objective", "masked_lm"), 0)
    names = dict(learner.named_parameters())

    def chosen(**settings):
        one = select("bitfit", **settings).build()
        return {n for n in names if one(n, names[n])}

    head = {n for n in names if n.startswith("objective.")}
    biases = {n for n in names if n.startswith("encoder.") and n.endswith("bias")}
    assert chosen() == head | biases and head and len(biases) == 2 * 8 + 2
    small = chosen(biases=["**.mixer.q.bias", "**.ffn.up.bias"], also=["objective.head.dense.**"])
    assert small == {f"encoder.layers.{i}.{n}.bias" for i in (0, 1) for n in ("mixer.q", "ffn.up")} | {
        "objective.head.dense.weight", "objective.head.dense.bias"}  # fmt: skip


@pytest.mark.parametrize("depth,blocks,times", [(2, 1, 2), (2, 1, 3), (4, 2, 2), (3, 2, 2)])
def test_stacking_copies_every_layer_onto_the_one_it_becomes(depth, blocks, times):
    spec = encoder_spec().replace("depth", depth)
    other = spec.args["blocks"][0].replace("ffn.hidden", 10)
    spec = spec.replace("blocks", [spec.args["blocks"][0], other][:blocks])
    make = lambda s: build_learner(s, [], example("objective", "masked_lm"), 0)  # noqa: E731
    small = wake(make(spec))
    larger, grown = resize("stack", times=times).build()(spec, tensors(small), make)
    large = make(larger)
    load_tensors(large, {k: v.detach() for k, v in grown.items()})
    assert len(large.encoder.layers) == depth * times
    for i, layer in enumerate(large.encoder.layers):
        for name, p in layer.named_parameters():
            assert torch.equal(p, small.encoder.layers[i % depth].get_parameter(name))
    assert torch.equal(large.encoder.embedding.table.weight, small.encoder.embedding.table.weight)


def test_stacking_shared_layers_keeps_them_shared():
    spec = encoder_spec().replace("share", ["layers.*"])
    make = lambda s: build_learner(s, [], example("objective", "masked_lm"), 0)  # noqa: E731
    small = make(spec)
    larger, grown = resize("stack").build()(spec, tensors(small), make)
    assert grown.keys() == tensors(small).keys()
    load_tensors(make(larger), {k: v.detach() for k, v in grown.items()})
    with pytest.raises(ValueError, match="times is at least 2"):
        resize("stack", times=1).build()
    with pytest.raises(ValueError, match="copies the layers of encoder/stack, not of norm/rms"):
        resize("stack").build()(norm("rms"), {}, make)


# ---- the network


def test_rms_is_its_formula():
    piece, x = wake(norm("rms", eps=1e-3).build(DIM)), draws(2, 6, DIM)
    n = x.numpy().astype(np.float64)
    want = n / np.sqrt((n**2).mean(-1, keepdims=True) + 1e-3) * piece.weight.detach().numpy()
    equal(piece(x, layout()), want)


@pytest.mark.parametrize("act", ["sigmoid", "silu", "relu", "none"])
def test_glu_is_its_formula(act):
    piece, x = wake(ffn("glu", hidden=5, act=act, bias=True, out_bias=True).build(DIM)), draws(2, 6, DIM)
    w = {k: v.detach().numpy() for k, v in piece.named_parameters()}
    gate, up = (x.numpy() @ w[f"{n}.weight"].T + w[f"{n}.bias"] for n in ("gate", "up"))
    gate = {"sigmoid": sigmoid(gate), "silu": gate * sigmoid(gate), "relu": np.maximum(gate, 0), "none": gate}[act]
    equal(piece(x, layout()), (gate * up) @ w["down.weight"].T + w["down.bias"])
    with pytest.raises(ValueError, match="no act method 'nope'; there are: gelu"):
        ffn("glu", hidden=3, act="nope").build(4)


def test_glu_has_no_bias_unless_asked():
    assert {n for n, _ in ffn("glu", hidden=3).build(4).named_parameters()} == {
        "gate.weight",
        "up.weight",
        "down.weight",
    }


def test_sinusoids_are_the_papers():
    piece = position("sinusoidal").build(6, 1, 6)
    place = Layout.of(torch.ones(1, 4, dtype=torch.int64), torch.tensor([[0, 1, 7, 300]]))
    got = piece.add(torch.zeros(1, 4, 6), place)[0]
    want = [[f(p / 10000 ** (2 * i / 6)) for i in range(3) for f in (np.sin, np.cos)] for p in (0, 1, 7, 300)]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)  # the angle 300 in float32


def test_rope_knows_only_distance_and_turns_by_the_papers_angles():
    piece = position("rope", base=100.0).build(8, 1, 8)
    q, k = draws(1, 1, 1, 8), draws(1, 1, 1, 8, seed=1)

    def at(x, place):
        one = torch.ones(1, 1, dtype=torch.int64)
        return piece.rotate(x, Layout.of(one, place * one))

    product = lambda m, n: (at(q, m) * at(k, n)).sum().item()  # noqa: E731
    assert product(3, 5) == pytest.approx(product(103, 105), abs=1e-4)
    assert abs(product(3, 5) - product(3, 6)) > 1e-3 and torch.equal(at(q, 0), q)
    pairs = (q[..., :4] + 1j * q[..., 4:]).numpy() * np.exp(1j * 3 * 100.0 ** (-2 * np.arange(4) / 8))
    equal(at(q, 3), np.concatenate([pairs.real, pairs.imag], -1))


@pytest.mark.parametrize("kind", ["rope", "sinusoidal"])
def test_pairs_need_an_even_width(kind):
    with pytest.raises(ValueError, match="even, not 5"):
        position(kind).build(5, 1, 5)


# ---- mixture of experts


def moe(**settings):
    return wake(ffn("moe", expert=ffn("glu", hidden=5), **settings).build(DIM))


@pytest.mark.parametrize("top,renormalise", [(1, False), (2, False), (2, True), (4, True)])
def test_moe_is_its_formula_token_by_token(top, renormalise):
    piece, x = moe(top=top, renormalise=renormalise), draws(2, 6, DIM)
    got = piece(x, layout())
    p = softmax(x.numpy() @ piece.router.weight.detach().numpy().T)
    want = np.zeros(x.shape)
    for b in range(2):
        for t in range(6):
            chosen = np.argsort(-p[b, t])[:top]
            gate = p[b, t, chosen] / (p[b, t, chosen].sum() if renormalise else 1)
            for g, e in zip(gate, chosen, strict=True):
                want[b, t] += g * piece.experts[e](x[b : b + 1, t : t + 1], layout(1, 1))[0, 0].detach().numpy()
    equal(got, want)


def test_moe_traced_is_moe_routed():
    piece, x = moe(top=2), draws(2, 6, DIM)
    keep = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    use = torch.zeros(2, 6, 4).scatter(-1, torch.randint(4, (2, 6, 2)), 1.0) * keep[..., None]
    gate = use * draws(2, 6, 4).abs()
    place = Layout.padded(keep)
    torch.testing.assert_close(
        piece._everywhere(x, gate, use, place), piece._where_chosen(x, gate, use, place), **CLOSE
    )


def balance(piece, x, place):
    with tap.heard() as extra:
        piece(x, place)
    return extra["balance"].item()


def test_moe_balance_is_the_papers_and_padding_does_not_count():
    piece, x = moe(balance=0.5), draws(2, 6, DIM)
    keep = torch.tensor([[1] * 6, [1] * 2 + [0] * 4])
    p = softmax(x.numpy() @ piece.router.weight.detach().numpy().T)[keep.numpy() > 0]
    share = np.bincount(p.argmax(-1), minlength=4) / len(p)
    assert balance(piece, x, Layout.padded(keep)) == pytest.approx(0.5 * 4 * (share * p.mean(0)).sum(), rel=1e-5)
    other = torch.where(keep[..., None] > 0, x, 100.0)
    assert balance(piece, other, Layout.padded(keep)) == balance(piece, x, Layout.padded(keep))
    with torch.no_grad():
        piece.router.weight.zero_()  # even probabilities: 1, the least there is
    assert balance(piece, x, layout()) == pytest.approx(0.5)


def test_moe_on_padding_alone_and_on_unused_experts():
    piece, x = moe(), draws(2, 6, DIM)
    assert not piece(x, Layout.padded(torch.zeros(2, 6))).any()
    piece(x[:, :1], layout(2, 1)).sum().backward()
    assert all(p.grad is not None for p in piece.parameters())
    with pytest.raises(ValueError, match="top lies between 1 and the 4 experts, not 5"):
        moe(top=5)


# ---- R-Drop


def test_rdrop_is_two_passes_with_different_dropout():
    spec = encoder_spec().replace("blocks.*.residual.dropout", 0.3)
    inner = example("objective", "masked_lm")
    learner = build_learner(spec, [], objectives("rdrop", inner=inner, alpha=2.0), 0).train()
    wake(learner)
    batch = corrupted(learner.objective, language(8, 0), 0)
    with kernels.seeded(0):
        out = learner.objective(learner.encoder, batch)
    with kernels.seeded(0):
        (one, target), (two, _) = (learner.objective.predict(learner.encoder, batch) for _ in range(2))
    log_p, log_q = (x.log_softmax(-1) for x in (one, two))
    apart = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2
    want = (learner.objective.loss(one, target) + learner.objective.loss(two, target)) / 2 + 2 * apart
    torch.testing.assert_close(out["loss"], want)
    assert out["apart"] > 0.01
    learner.eval()
    out = learner.objective(learner.encoder, batch)
    alone = learner.objective.inner(learner.encoder, batch)["loss"]
    assert out["apart"] == 0 and torch.equal(out["loss"], alone)


def test_rdrop_names_its_head_as_the_inner_objective_would():
    encoder = build(encoder_spec())
    inner = example("objective", "masked_lm")
    names = {n for n, _ in inner.build(encoder).named_parameters() if not n.startswith("head.table")}
    wrapped = {n for n, _ in objectives("rdrop", inner=inner).build(encoder).named_parameters()}
    assert {n for n in wrapped if not n.startswith("head.table")} == names


# ---- the bottleneck and the prefix


def test_a_prefix_is_as_so_many_more_keys_and_values():
    model, ((_, place), _) = build(encoder_spec()), both()
    core = model.layers[0].mixer.core
    q, k, v = (draws(3, 2, 9, 8, seed=i) for i in range(3))
    graft(model, "layers.0.mixer.core", grafts("prefix", length=4))
    prefix = core.grafts["prefix"]
    got = core(q, k, v, place.mask_B1TT(), 0.3, place)
    long_k, long_v = (np.concatenate([np.repeat(p.detach().numpy()[None], 3, 0), x.numpy()], 2)
                      for p, x in ((prefix.k, k), (prefix.v, v)))  # fmt: skip
    score = np.einsum("bnth,bnsh->bnts", q.numpy(), long_k) * 0.3
    score[..., 4:] = np.where(place.mask_B1TT().numpy(), score[..., 4:], -np.inf)
    want = np.einsum("bnts,bnsh->bnth", softmax(score), long_v)
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-4, atol=1e-5)
    whole = core(q, k, v, None, 0.3, place)
    everyone = core(q, k, v, torch.ones(1, 1, 9, 9, dtype=torch.bool), 0.3, place)
    torch.testing.assert_close(whole, everyone)
    nothing = core(q, k, v, torch.zeros(1, 1, 9, 9), 0.3, place)
    torch.testing.assert_close(nothing, whole)


def test_an_asleep_bottleneck_still_learns():
    model, (pad, _) = build(encoder_spec()), both()
    before = states(model(*pad), pad[1])
    graft(model, "layers.*.{mixer,ffn}", grafts("bottleneck", size=3))
    after = states(model(*pad), pad[1])
    assert torch.equal(before, after)
    after.square().sum().backward()
    ups = [m.grafts["bottleneck"].up for layer in model.layers for m in (layer.mixer, layer.ffn)]
    assert all(up.weight.grad.any() and up.weight.shape == (DIM, 3) for up in ups)
