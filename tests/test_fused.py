"""A layer trained as one function gives the outputs and gradients of fp32 torch, up to the rounding of bf16."""

import copy
from dataclasses import replace

import pytest
import torch
from test_native import spec

from bertsmith import fused, kernels, tap
from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.layout import Layout
from bertsmith.linear import edit, graft
from bertsmith.native import step

pytestmark = pytest.mark.skipif(bool(step.why_not()), reason=step.why_not())

# Rounding to bf16 moves a number by 2^-9 at the most; of a sum of many, taken in fp32, far less stays. Of the norm of 64
# numbers from one token about 0.1 % stays by chance: it is taken over several draws of what goes in, the angle of each.
ANGLE, NORM, DRAWS = 0.9999, 1e-3, 32
TEXTS = ((40, 1, 7), (19, 30), (48,))
ROPE = {"kind": "position/rope", "base": 1000.0}
PRE = {"kind": "residual/pre", "norm": {"kind": "norm/layer", "bias": False}}
SHAPES = {
    "bert": {},
    "one wide head": {"blocks__0__mixer__own_heads": 1, "blocks__0__mixer__head_dim": 64},
    "odd panels": {"dim": 96, "heads": 3},
    "relu": {"blocks__0__ffn__act": "relu"},
    "tanh gelu": {"blocks__0__ffn__act": "gelu_tanh"},
    "without biases": {
        "blocks__0__mixer__bias": False,
        "blocks__0__mixer__out_bias": False,
        "blocks__0__ffn__bias": False,
    },
    "modernbert": {
        "blocks__0__mixer__position": ROPE,
        "blocks__0__mixer__window": 16,
        "blocks__0__mixer__bias": False,
        "blocks__0__ffn": {"kind": "ffn/glu", "hidden": 96},
        "blocks__0__residual": PRE,
    },
    "eurobert": {
        "heads": 4,
        "dim": 128,
        "blocks__0__mixer__kv_heads": 2,
        "blocks__0__mixer__position": ROPE,
        "blocks__0__ffn": {"kind": "ffn/glu", "hidden": 64, "act": "silu"},
        "blocks__0__residual": {"kind": "residual/pre", "norm": {"kind": "norm/rms"}},
    },
    "nomic": {
        "blocks__0__mixer__position": ROPE,
        "blocks__0__ffn": {"kind": "ffn/glu", "hidden": 128, "act": "silu", "bias": True, "out_bias": True},
    },
    "mpnet": {"blocks__0__mixer__position": {"kind": "position/t5_buckets"}},
    "t5": {
        "blocks__0__mixer__position": {"kind": "position/t5_buckets", "buckets": 8, "far": 20},
        "blocks__0__ffn": {"kind": "ffn/glu", "hidden": 96, "act": "gelu_tanh"},
        "blocks__0__residual": {"kind": "residual/pre", "norm": {"kind": "norm/rms"}},
    },
    "mosaicbert": {
        "blocks__0__mixer__position": {"kind": "position/alibi"},
        "blocks__0__ffn": {"kind": "ffn/glu", "hidden": 96, "out_bias": True},
    },
}


def packed(rows):
    """A layout of texts of these lengths, padded at the end of each row."""
    longest = max(map(sum, rows))
    segment, position = (
        torch.zeros(len(rows), longest, dtype=torch.long),
        torch.zeros(len(rows), longest, dtype=torch.long),
    )
    for i, lengths in enumerate(rows):
        at = 0
        for number, n in enumerate(lengths):
            segment[i, at : at + n], position[i, at : at + n] = number + 1, torch.arange(n)
            at += n
    return Layout.of(segment, position)


def layer_of(change):
    """A layer with weights away from their start, each a bf16 number."""
    made = spec(**{"dim": 64, "depth": 1} | change)
    layer, g = made.build().layers[0].train(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            far = torch.randn(p.shape, generator=g) * (0.5 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.1)
            p.copy_((far + (p if p.dim() == 1 else 0)).bfloat16())
    return layer


def given(layout, dim, seed=0):
    """(x, dy): bf16; nothing comes back to padding."""
    g = torch.Generator().manual_seed(seed)
    shape = (*layout.segment_BT.shape, dim)
    x, dy = (torch.randn(shape, generator=g).bfloat16() for _ in range(2))
    return x, dy * layout.real_BT[..., None]


def went(layer, layout, x, dy, place_N=None):
    """name -> tensor: outputs and every gradient, fp32, where there are tokens; of these places alone, if there are any."""
    x = x.clone().requires_grad_()
    y = fused.through(layer, x, layout.fresh(), place_N=place_N)
    real = layout.real_BT
    wanted = real if place_N is None else torch.zeros_like(real).flatten().index_fill(0, place_N, True).view_as(real)
    y.backward(torch.where(wanted[..., None], dy, 0).to(y.dtype))
    found = {"y": y.detach()[wanted], "dx": x.grad[real]}
    found |= {n: p.grad for n, p in layer.named_parameters() if p.grad is not None}
    return {name: value.double().flatten() for name, value in found.items()}


def stacked(found):
    """name -> one row a draw, of pairs of what `went` gives: both sides."""
    return tuple({n: torch.stack([one[n] for one in side]) for n in side[0]} for side in zip(*found, strict=True))


def drawn(layer, layout, draws=DRAWS):
    """(of the layer in bf16, of the layer in fp32): name -> one row a draw, of outputs and every gradient."""
    found, short = [], copy.deepcopy(layer).bfloat16()
    for seed in range(draws):
        x, dy = given(layout, layer.mixer.out.weight.shape[0], seed)
        layer.zero_grad()
        short.zero_grad()
        found.append((went(short, layout, x, dy), went(layer, layout, x.float(), dy.float())))
    return stacked(found)


def same(got, want, norm=NORM, angle=ANGLE):
    assert got.keys() == want.keys()
    for name in want:
        if name.endswith("k.bias"):  # adds the same to all scores of a query: its gradient is rounding, and no more
            continue
        a, b = torch.atleast_2d(got[name]), torch.atleast_2d(want[name])
        if not b.any():  # what one token alone attends to does not depend on q and k
            assert not a.any(), name
            continue
        assert torch.cosine_similarity(a, b).min() > angle, name
        assert abs(a.norm() / b.norm() - 1) < norm, name
        assert (a.norm(dim=1) / b.norm(dim=1) - 1).abs().max() < 10 * norm, name  # by chance, of each draw alone


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("rows", [TEXTS, ((1,),), ((33, 64),)], ids=["packed", "one token", "full"])
def test_outputs_and_gradients_are_those_of_fp32(change, rows):
    layer = layer_of(change)
    assert fused.why_not(layer) == ""
    if change == SHAPES["relu"]:  # each unit of the feed-forward is far from 0, where the slope jumps: on or off
        up = layer.ffn.up.bias.data
        up.copy_(torch.where(torch.rand(up.shape, generator=torch.Generator().manual_seed(2)) < 0.5, -2.5, 2.5))
    same(*drawn(layer, packed(rows)))


def test_relu_where_its_slope_jumps():
    got, want = ({n: v.flatten() for n, v in side.items()} for side in drawn(layer_of(SHAPES["relu"]), packed(TEXTS)))
    same(got, want, angle=0.999)  # rounding puts a few units in a thousand on the other side of 0


def some(layout, seed=0, share=0.2):
    """Places of some tokens, out of order; none of the first text."""
    real = layout.real_BT.flatten() & (layout.document_BT.flatten() > 0)
    drawn = torch.rand(len(real), generator=torch.Generator().manual_seed(seed)) < share
    place = (real & drawn).nonzero()[:, 0]
    return place[torch.randperm(len(place), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_some_tokens_get_what_they_get_among_all(change):
    layer, layout = layer_of(change).bfloat16(), packed((*TEXTS, (300, 41)))
    x, dy = given(layout, layer.mixer.out.weight.shape[0])
    place = some(layout)
    only = torch.zeros(dy.shape[:2].numel(), 1, dtype=dy.dtype).index_fill(0, place, 1).view(*dy.shape[:2], 1)
    want = went(copy.deepcopy(layer), layout, x, dy * only)
    got = went(layer, layout, x, dy, place)
    # the same numbers in fp32, in another order where a sum goes over tokens, and then rounded
    same(got | {"y": want["y"]}, want, 1e-4, 1 - 1e-6)
    whole = fused.through(layer, x, layout.fresh()).detach().flatten(0, 1)
    asked = fused.through(layer, x, layout.fresh(), place_N=place).detach().flatten(0, 1)
    assert torch.equal(asked[place], whole[place])  # the same numbers, and nothing where nobody asked
    assert asked.any(1).sum() == len(place)


def test_an_encoder_gives_some_states_as_it_gives_all():
    encoder, layout = spec(dim=64, depth=2).build().bfloat16().train(), packed(TEXTS)
    token, place = torch.randint(50, layout.segment_BT.shape), some(layout)
    want = encoder(token, layout).flatten(0, 1)[place]
    heard = []
    assert torch.equal(encoder.at(token, layout, place), want)
    assert torch.equal(encoder.at(token, layout, place[:0]), want[:0])
    with encoder.norm.register_forward_hook(lambda m, i, y: heard.append(y)):  # who listens is given all
        assert torch.equal(encoder.at(token, layout, place), want)
    assert heard[0][layout.real_BT].any(1).all()
    with encoder.layers[1].register_forward_hook(lambda m, i, y: heard.append(y)):
        encoder.at(token, layout, place)
    assert heard[1][layout.real_BT].any(1).all()


def test_texts_longer_than_a_block_of_queries_and_a_window_that_leaves_some_out():
    for change in ({}, SHAPES["modernbert"], SHAPES["mpnet"]):
        same(*drawn(layer_of(change), packed(((300, 41), (350,))), 8))


@pytest.mark.parametrize("change", [{}, SHAPES["t5"]], ids=["bert", "t5"])
def test_it_is_nearer_to_fp32_than_torch_in_bf16_is(change):
    layer, layout = layer_of(change), packed(((64,),) * 4)
    x, dy = given(layout, 64)
    want = went(copy.deepcopy(layer), layout, x.float(), dy.float())
    ours = went(copy.deepcopy(layer).bfloat16(), layout, x, dy)
    with kernels.piecewise():
        theirs = went(layer.bfloat16(), layout, x, dy)
    far = lambda got: sum(float((got[n] - want[n]).norm() / want[n].norm()) for n in want if not n.endswith("k.bias"))  # noqa: E731
    assert far(ours) < far(theirs)


@pytest.mark.parametrize("asked", [None, [3, 4, 11, 21, 30]], ids=["all", "some"])
def test_dropout_drops_the_same_in_both_passes(asked):
    p, heads, dim, key = 0.25, 2, 64, 77
    rates = {f"blocks__0__{part}__dropout": p for part in ("residual", "mixer", "ffn")}
    layer, layout = layer_of(rates), packed(((20, 12),))
    tokens = 32

    def drop(site, first, n):
        return torch.from_numpy(step.mask(key, site, p, first, n))

    place = None if asked is None else torch.tensor(asked)

    def dropped(site, wide):
        """What is dropped of the rows that the layer gives."""
        whole = torch.ones(tokens, wide)
        here = torch.arange(tokens) if place is None else place
        whole[here] = drop(site, 0, len(here) * wide // 16).view(-1, wide)
        return whole

    streams, inner = [dropped(site, dim) for site in (1, 2)], dropped(3, layer.ffn.up.weight.shape[0])
    kept = [float((m > 0).float().mean()) for m in streams]
    assert asked or all(abs(share - (1 - p)) < 0.03 for share in kept)
    assert not torch.equal(*streams)
    assert {round(float(v), 4) for v in streams[0].unique()} - {1.0} == {0.0, round(1 / (1 - p), 4)}

    def reference(x_TD):
        m, h = layer.mixer, dim // heads
        q, k, v = (f(x_TD).view(tokens, heads, h).transpose(0, 1) for f in (m.q, m.k, m.v))
        out = torch.zeros(heads, tokens, h)
        for start, end in ((0, 20), (20, 32)):
            weights = (q[:, start:end] @ k[:, start:end].transpose(1, 2) * m.scale).softmax(-1)
            for n in range(heads):
                masks = [drop(0, (i * heads + n) << 16, 2)[: end - start] for i in range(start, end)]
                out[n, start:end] = (weights[n] * torch.stack(masks)) @ v[n, start:end]
        y = m.out(out.transpose(0, 1).reshape(tokens, dim))
        y = layer.mixer_residual.norm(x_TD + streams[0] * y, layout)
        f = layer.ffn
        return layer.ffn_residual.norm(y + streams[1] * f.down(inner * f.act(f.up(y))), layout)

    wanted = slice(None) if place is None else place
    short = copy.deepcopy(layer).bfloat16()

    def both(seed):
        x, dy = given(layout, dim, seed)
        layer.zero_grad()
        short.zero_grad()
        x32 = x[0].float().requires_grad_()
        y = reference(x32)
        y[wanted].backward(dy[0].float()[wanted])
        want = {"y": y.detach()[wanted], "dx": x32.grad} | {n: q.grad for n, q in layer.named_parameters()}
        return went(short, layout, x, dy, place), {n: v.double().flatten() for n, v in want.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "key", lambda: key)
        same(*stacked([both(seed) for seed in range(DRAWS)]))


def test_the_seed_decides_what_is_dropped_and_evaluation_drops_nothing():
    layer, layout = layer_of({"blocks__0__residual__dropout": 0.5}).bfloat16(), packed(TEXTS)
    x, dy = given(layout, 64)

    def seeded(seed):
        layer.zero_grad()
        with kernels.seeded(seed, "step"):
            return went(layer, layout, x, dy)

    one, again, other = seeded(1), seeded(1), seeded(2)
    assert all(torch.equal(one[n], again[n]) for n in one) and not torch.equal(one["y"], other["y"])
    layer.eval()
    assert torch.equal(seeded(1)["y"], seeded(2)["y"])


def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same():
    layout = packed(TEXTS)
    x, dy = given(layout, 64)
    whole = went(layer_of({}).bfloat16(), layout, x, dy)
    for trains in (("bias",), ("mixer.q.weight",), ("norm.weight", "norm.bias"), ("ffn.down.weight", "mixer.v.bias")):
        layer = layer_of({}).bfloat16()
        for name, p in layer.named_parameters():
            p.requires_grad_(name.endswith(trains))
        got = went(layer, layout, x, dy)
        assert got.keys() - {"y", "dx"} == {n for n in whole if n.endswith(trains)}
        assert all(torch.equal(got[n], whole[n]) for n in got), trains
    x = x.clone()  # an input without a gradient, as above a frozen embedding
    layer = layer_of({}).bfloat16()
    fused.through(layer, x, layout).backward(dy)
    assert all(torch.equal(p.grad.double().flatten(), whole[n]) for n, p in layer.named_parameters())


def test_an_edited_weight_stays_one_function_and_the_edit_learns():
    encoder = spec(dim=64, depth=1).build()
    edit(encoder, "**.mixer.[qv]", edits("lora", rank=4))
    torch.manual_seed(0)
    for name, p in encoder.named_parameters():
        if "lora" in name:
            p.data = torch.randn_like(p).bfloat16().float() * 0.125
    layer, layout = encoder.layers[0].train(), packed(TEXTS)
    assert fused.why_not(layer) == ""
    x, dy = given(layout, 64)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(p.bfloat16())
    want = went(copy.deepcopy(layer), layout, x.float(), dy.float())
    got = went(layer.bfloat16(), layout, x, dy)
    assert any("lora" in name for name in got)
    for name in ("y", "dx", *(n for n in got if "lora" in n)):
        # the edited weight is rounded to bf16 once more
        assert torch.dot(got[name], want[name]) > 0.9997 * got[name].norm() * want[name].norm(), name


def test_shared_layers_add_their_gradients():
    layout, layer = packed(TEXTS), layer_of({})
    short = copy.deepcopy(layer).bfloat16()

    def twice(layer, x, dy):
        x = x.clone().requires_grad_()
        layer.zero_grad()
        y = fused.through(layer, fused.through(layer, x, layout.fresh()), layout.fresh())
        y.backward(dy)
        found = {"dx": x.grad[layout.real_BT]} | {n: p.grad for n, p in layer.named_parameters()}
        return {n: v.double().flatten() for n, v in found.items()}

    def both(seed):
        x, dy = given(layout, 64, seed)
        return twice(short, x, dy), twice(layer, x.float(), dy.float())

    same(*stacked([both(seed) for seed in range(DRAWS)]))


REFUSED = {
    "a width of a head that is not a multiple of 32: 16": {"dim": 32},
    "feed-forward width that is not a multiple of 32: 100": {"blocks__0__ffn__hidden": 100},
    "position/Disentangled": {"blocks__0__mixer__position": {"kind": "position/disentangled", "span": 8}},
    "mixer/Fourier": {"blocks__0__mixer": {"kind": "mixer/fourier"}},
    "slope of act/Tanh": {"blocks__0__ffn__act": "tanh"},
    "norm/Scale": {"blocks__0__residual": {"kind": "residual/post", "norm": {"kind": "norm/scale"}}},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_it_does_not_know_goes_through_torch_and_is_named(why):
    layer = spec(**{"dim": 64, "depth": 1} | REFUSED[why]).build().layers[0]
    assert why in fused.why_not(layer)
    layout = packed(TEXTS)
    x, _ = given(layout, layer.ffn.up.weight.shape[1])
    layer.bfloat16()
    found = []
    for f in (lambda: fused.through(layer, x, layout), lambda: layer(x, layout)):
        with kernels.seeded(0):
            found.append(f())
    assert torch.equal(*found)


def test_a_graft_and_a_listener_bring_torch_back():
    encoder = spec(dim=64, depth=2).build().bfloat16()
    graft(encoder, "layers.1.ffn", grafts("bottleneck", size=4))
    assert fused.why_not(encoder.layers[0]) == "" and "the graft bottleneck at ffn" in fused.why_not(encoder.layers[1])
    heard = []
    layout = packed(TEXTS)
    token = torch.randint(5, 60, layout.segment_BT.shape)
    with tap.see(encoder, "layers.0.mixer", lambda path, inputs, output: heard.append(path)):
        assert "hooks" in fused.why_not(encoder.layers[0])
        encoder(token, layout)
    assert heard == ["layers.0.mixer"]


def test_texts_out_of_order_and_layouts_with_who_sees_whom_go_through_torch():
    layer = layer_of({}).bfloat16()
    in_order = Layout.padded(torch.ones(1, 6))
    for layout in (
        replace(in_order, position_BT=torch.tensor([[0, 2, 1, 3, 4, 5]])),
        replace(in_order, see_BTT=torch.ones(1, 6, 6, dtype=torch.bool).tril()),
    ):
        x, _ = given(layout, 64)
        assert torch.equal(fused.through(layer, x, layout), layer(x, layout))


def test_any_number_of_threads_gives_the_same_within_rounding_and_one_number_the_same_bits():
    layer, layout = layer_of({}).bfloat16(), packed(((64, 40),) * 6)
    x, dy = given(layout, 64)
    before, found = torch.get_num_threads(), {}
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            layer.zero_grad()
            now = went(layer, layout, x, dy)
            if threads in found:
                assert all(torch.equal(now[n], found[threads][n]) for n in now)
            found[threads] = now
    finally:
        torch.set_num_threads(before)
    for other in (2, 3):
        assert torch.equal(found[1]["y"], found[other]["y"])
        same(found[other], found[1], 1e-3)


def test_a_real_size():
    same(*drawn(layer_of({"dim": 384, "heads": 6}), packed(((128,),) * 2), 1))


def test_a_softmax_of_large_scores_stays_finite():
    layer, layout = layer_of({}), packed(TEXTS)
    with torch.no_grad():
        layer.mixer.q.weight *= 300
    x, dy = given(layout, 64)
    found = went(layer.bfloat16(), layout, x, dy)
    assert all(torch.isfinite(v).all() for v in found.values())


@pytest.mark.parametrize("sizes", [(7, 32, 1031), (90, 64, 2000), (50, 96, 1024)])
def test_many_outputs_and_their_cross_entropy(sizes):
    rows, dim, outputs = sizes
    g = torch.Generator().manual_seed(0)

    def went(inputs, target_N):
        inputs = [x.clone().requires_grad_() for x in inputs]
        z_NV = kernels.logits(*inputs)
        loss = kernels.cross_entropy(z_NV, target_N) / rows
        loss.backward()
        assert z_NV.dtype == torch.float32 or not step.why_not() and z_NV.stride(0) % 32 == 0
        found = {"z": z_NV.detach(), "loss": loss.detach()[None]} | {f"d{i}": x.grad for i, x in enumerate(inputs)}
        return {n: v.double().flatten() for n, v in found.items()}

    def both():
        h_ND, weight_VD, bias_V = (torch.randn(*s, generator=g) for s in ((rows, dim), (outputs, dim), (outputs,)))
        given = [h_ND.bfloat16(), (weight_VD * 0.2).bfloat16(), bias_V.bfloat16()]
        target_N = torch.randint(0, outputs, (rows,), generator=g)
        return went(given, target_N), went([x.float() for x in given], target_N)

    same(*stacked([both() for _ in range(DRAWS)]))


def test_what_is_done_between_logits_and_loss_is_kept():
    """A gradient that comes from elsewhere, and lies otherwise, is taken as well."""
    g = torch.Generator().manual_seed(0)
    h_ND, weight_VD = torch.randn(20, 32, generator=g).bfloat16(), torch.randn(1030, 32, generator=g).bfloat16()
    found = []
    for kind in (torch.float32, torch.bfloat16):
        h, w = (x.to(kind).requires_grad_() for x in (h_ND.clone(), weight_VD.clone()))
        z = kernels.logits(h, w, None)
        (z.float() / 9).tanh().square().sum().backward()
        found.append({"dh": h.grad.double().flatten(), "dw": w.grad.double().flatten()})
    same(found[1], found[0], 5e-3, 0.999)


def test_the_sum_of_gradients_at_the_targets_is_not_rounded_away():
    """-1 / 600 is not a bf16 number: rounded to the nearest in every row, the sum would be short by 0.2 %."""
    rows = 600
    z_NV = step.rows_apart(rows, 1024).zero_()
    slope = step.entropy_backward(
        z_NV, torch.arange(rows), torch.full((rows,), float(torch.tensor(1024.0).log())), 1 / rows
    )
    assert abs(float(slope[torch.arange(rows), torch.arange(rows)].double().sum()) + 1023 / 1024) < 2e-4
