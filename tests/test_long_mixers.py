"""Mixers and cores whose cost grows linearly: each against its formula in NumPy, packed against padded, and the property that
its paper claims, which fails with the plain piece in its place."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toy import (
    DIM,
    build,
    corrupted,
    documents,
    encoder_spec,
    example,
    language,
    packed,
    padded,
    states,
    wake,
)

from bertsmith import kernels, rows
from bertsmith.core import core
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.mixer import mixer

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, some hundred additions in another order
N, H = 2, 8


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def qkv(T, B=1):
    return [draws(B, N, T, H, seed=i) for i in range(3)]


def whole(B, T):
    return Layout.padded(torch.ones(B, T), whole=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def made(kind, dropout=0.0, **settings):
    return wake(core(kind, **settings).build(N, H, dropout).eval())


def equal(got, want):
    np.testing.assert_allclose(got.detach().numpy(), want, **CLOSE)


def elements(f, *given):
    """The most elements that any tensor made in a pass has: what memory grows with, counted and not measured."""

    class Count(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor):
                    self.most = max(self.most, x.numel())
            return out

    # the plain products: a fused kernel hides the scores that it works through
    with Count() as count, torch.no_grad(), kernels.forced("eager"):
        f(*given)
    return count.most


LINEAR = {
    "core/linear": {},
    "core/windowed": {"window": 8},
    "core/block_sparse": {"block": 4, "random": 1},
    "core/nystrom": {"landmarks": 4},
    "mixer/longformer": {"window": 8, "first": True},
    "mixer/luna": {"length": 4},
    "mixer/ponet": {},
}


def piece(kind, **settings):
    room, _, name = kind.partition("/")
    if room == "mixer":
        return wake(mixer(name, **settings).build(DIM, N).eval())
    return wake(mixer("attention", core=core(name, **settings)).build(DIM, N).eval())


def grows_linearly(model):
    """Four times the tokens, at most five times the largest tensor (chunks are rounded up)."""
    small, large = (elements(model, draws(2, T, DIM), whole(2, T).fresh()) for T in (128, 512))
    return large <= 5 * small


@pytest.mark.parametrize("kind", LINEAR)
def test_no_tensor_grows_with_the_square_of_the_length(kind):
    assert grows_linearly(piece(kind, **LINEAR[kind]))


def test_tensors_of_plain_attention_grow_with_the_square():
    assert not grows_linearly(piece("core/softmax"))


@pytest.mark.parametrize("kind", LINEAR)
def test_packed_equals_padded_in_long_rows(kind):
    """Longer than any window, block or segment of the piece, in documents of unequal length."""
    docs = documents((41, 7, 26, 1))
    pad, pack = padded(docs)[1], packed(docs, [[0, 1], [3, 2]], 50)[1]
    x_ND = draws(sum(map(len, docs)), DIM)
    model, order = piece(kind, **LINEAR[kind]), [0, 1, 3, 2]
    parts = x_ND.split([len(d) for d in docs])

    def laid(layout, chosen):
        x = torch.zeros(*layout.segment_BT.shape, DIM)
        x[layout.real_BT] = torch.cat([parts[i] for i in chosen])
        return x

    a = states(model(laid(pad, range(4)), pad.fresh()), pad).split([len(d) for d in docs])
    b = states(model(laid(pack, order), pack.fresh()), pack).split([len(docs[i]) for i in order])
    for i, y in zip(order, b, strict=True):
        torch.testing.assert_close(y, a[i], **CLOSE)


@pytest.mark.parametrize("kind", ["core/linear", "core/block_sparse", "core/nystrom", "mixer/luna", "mixer/ponet"])
def test_a_row_of_padding_alone_does_not_spoil_gradients(kind):
    keep = torch.tensor([[1] * 6, [0] * 6])
    x = draws(2, 6, DIM).requires_grad_()
    layout = Layout.padded(keep)
    piece(kind, **LINEAR[kind])(x, layout)[0].square().sum().backward()
    assert x.grad.isfinite().all() and x.grad[0].abs().max() > 0 and not x.grad[1].any()


@pytest.mark.parametrize("kind", LINEAR)
def test_who_may_read_whom_is_refused(kind):
    layout = replace(whole(1, 6), see_BTT=torch.ones(1, 6, 6, dtype=torch.bool), whole=False)
    with pytest.raises(ValueError, match="see_BTT"):
        piece(kind, **LINEAR[kind])(draws(1, 6, DIM), layout)


@pytest.mark.parametrize("kind", ["linear", "nystrom"])
def test_a_core_without_weights_refuses_dropout(kind):
    with pytest.raises(ValueError, match="makes no weights to drop"):
        core(kind).build(N, H, 0.1)


# ---- linear attention


def test_linear_attention_is_its_formula():
    q, k, v = qkv(9)
    f = lambda x: np.where(x.numpy() > 0, x.numpy() + 1, np.exp(np.minimum(x.numpy(), 0)))  # noqa: E731
    weight = np.einsum("bnth,bnsh->bnts", f(q), f(k))
    want = np.einsum("bnts,bnsh->bnth", weight / weight.sum(-1, keepdims=True), v.numpy())
    equal(made("linear")(q, k, v, None, 0.3, whole(1, 9)), want)


def state_is_enough(one):
    """All that a reader needs of what it reads is one H x H state and one sum: other tokens of the same sums read the same."""
    q, k, v = qkv(2)
    f = lambda x: torch.nn.functional.elu(x) + 1  # noqa: E731
    # two tokens with half the features each, and the same values, in place of one
    half = f(k[:, :, :1]) / 2
    back = torch.where(half > 1, half - 1, half.log())
    twice, same = torch.cat([back, back], 2), torch.cat([v[:, :, :1]] * 2, 2)
    q1 = torch.cat([q[:, :, :1]] * 2, 2)
    extra_k, extra_v = draws(1, N, 1, H, seed=7), draws(1, N, 1, H, seed=8)
    a = one(
        torch.cat([q1, q1[:, :, :1]], 2),
        torch.cat([twice, extra_k], 2),
        torch.cat([same, extra_v], 2),
        None,
        1.0,
        whole(1, 3),
    )
    b = one(q1, torch.cat([k[:, :, :1], extra_k], 2), torch.cat([v[:, :, :1], extra_v], 2), None, 1.0, whole(1, 2))
    return torch.allclose(a[:, :, 0], b[:, :, 0], **CLOSE)


def test_linear_attention_reads_a_state_and_softmax_does_not():
    assert state_is_enough(made("linear"))
    assert not state_is_enough(made("softmax"))


# ---- windows


@pytest.mark.parametrize("window", [2, 6, 40])
@pytest.mark.parametrize("T", [1, 11, 24])
def test_windowed_is_attention_with_a_dense_mask(window, T):
    q, k, v = qkv(T)
    place = np.arange(T)
    score = np.einsum("bnth,bnsh->bnts", q.numpy(), k.numpy()) * 0.3
    score = np.where(np.abs(place[:, None] - place) <= window // 2, score, -np.inf)
    want = np.einsum("bnts,bnsh->bnth", softmax(score), v.numpy())
    equal(made("windowed", window=window)(q, k, v, None, 0.3, whole(1, T)), want)


def test_windowed_is_the_mixers_own_window():
    docs = documents((23, 9, 14))
    token, layout = packed(docs, [[0, 1], [2]], 36)
    spec = encoder_spec()
    dense, linear = (
        build(spec.replace("blocks.*.mixer", m))
        for m in (mixer("attention", window=6), mixer("attention", core=core("windowed", window=6)))
    )
    linear.load_state_dict(dense.state_dict())
    torch.testing.assert_close(states(linear(token, layout), layout), states(dense(token, layout), layout), **CLOSE)


def reach(one, T=32):
    """How far from the middle a changed value is felt."""
    q, k, v = qkv(T)
    other = v.clone()
    other[:, :, T // 2] += 1
    a, b = (one(q, k, x, None, 0.3, whole(1, T)) for x in (v, other))
    felt = (a - b).abs().amax((0, 1, 3)).nonzero()[:, 0] - T // 2
    return felt.min().item(), felt.max().item()


def test_windowed_reaches_half_the_window_and_softmax_everywhere():
    assert reach(made("windowed", window=6)) == (-3, 3)
    assert reach(made("softmax")) == (-16, 15)
    with pytest.raises(ValueError, match="even number of tokens"):
        made("windowed", window=5)


# ---- Longformer


def marked(place, T, *marks):
    mark = torch.zeros(1, T, dtype=torch.bool)
    mark[0, list(marks)] = True
    place.extra["global"] = mark
    return place


def test_longformer_is_its_formula():
    T, marks = 15, [0, 9]
    model, x = piece("mixer/longformer", window=4), draws(1, T, DIM)
    w = {n: (m.weight.detach().numpy(), m.bias.detach().numpy()) for n, m in model.named_children()}
    heads = lambda name: (x[0].numpy() @ w[name][0].T + w[name][1]).reshape(T, N, -1).transpose(1, 0, 2)  # noqa: E731
    near = np.abs(np.arange(T)[:, None] - np.arange(T)) <= 2
    is_mark = np.isin(np.arange(T), marks)

    def attend(suffix, may):
        q, k, v = (heads(n + suffix) for n in "qkv")
        return softmax(np.where(may, q @ k.transpose(0, 2, 1) / math.sqrt(H), -np.inf)) @ v

    y = np.where(is_mark[:, None], attend("_global", np.ones((T, T), bool)), attend("", near | is_mark))
    want = y.transpose(1, 0, 2).reshape(T, DIM) @ w["out"][0].T + w["out"][1]
    equal(model(x, marked(whole(1, T), T, *marks))[0], want)


def far_is_felt(settings, *marks):
    """Whether the last token feels the first in one layer: only through a marked one, and the window is narrow."""
    model, x = piece("mixer/longformer", **settings), draws(1, 30, DIM)
    other = x.clone()
    other[0, 0] += 1
    a, b = (model(y, marked(whole(1, 30), 30, *marks)) for y in (x, other))
    return bool((a - b)[0, -1].abs().max() > 1e-4)


def test_a_marked_token_is_read_from_everywhere_and_an_unmarked_one_is_not():
    assert far_is_felt({"window": 4}, 0)
    assert not far_is_felt({"window": 4}) and not far_is_felt({"window": 4}, 7)


def test_the_first_tokens_are_marked_where_the_layout_says_nothing():
    docs = documents((9, 6, 4))
    _, layout = packed(docs, [[0, 1], [2]], 16)
    x = draws(2, 16, DIM)
    said = layout.fresh()
    said.extra["global"] = (layout.position_BT == 0) & layout.real_BT
    first, none = (piece("mixer/longformer", window=2, first=f) for f in (True, False))
    y = first(x, layout.fresh())
    del layout.extra["global"]
    torch.testing.assert_close(states(first(x, layout.fresh()), layout), states(y, layout), rtol=0, atol=0)
    assert not torch.allclose(states(none(x, layout.fresh()), layout), states(y, layout), **CLOSE)


def test_more_marks_than_places_under_a_compiler_are_not_silent():
    model, x = piece("mixer/longformer", window=4, most=2), draws(1, 12, DIM)
    torch._dynamo.reset()
    compiled = torch.compile(lambda y, mark: model(y, _said(mark)), fullgraph=True, backend="eager")
    few, many = (marked(whole(1, 12), 12, *m).extra["global"] for m in ([0, 5], [0, 5, 7]))
    torch.testing.assert_close(compiled(x, few), model(x, _said(few)), **CLOSE)
    assert compiled(x, many).isnan().all()


def _said(mark):
    layout = Layout.padded(torch.ones(mark.shape))
    layout.extra["global"] = mark
    return layout


# ---- blocks


def reads(one, T, head=0):
    """bool [T, T]: whether a token feels another's value."""
    q, k, v = qkv(T)
    v = v.requires_grad_()
    y = one(q, k, v, None, 0.3, whole(1, T))
    return torch.stack(
        [torch.autograd.grad(y[0, head, t].sum(), v, retain_graph=True)[0][0, head].abs().sum(-1) > 0 for t in range(T)]
    )


def test_block_sparse_is_its_formula():
    T, b, r = 26, 2, 2
    q, k, v = qkv(T)
    one = made("block_sparse", block=b, random=r, seed=3)
    n = T // b
    drawn = one.draw(torch.tensor([n]), n)[0].numpy()
    score = np.einsum("bnth,bnsh->bnts", q.numpy(), k.numpy())[0] * 0.3
    may = np.zeros((N, n, n), bool)
    for i in range(n):
        may[:, i, [0, n - 1, *range(max(0, i - 1), min(n, i + 2))]] = True
        for h in range(N):
            if 0 < i < n - 1:
                assert len(set(drawn[h, i])) == r and not set(drawn[h, i]) & {0, n - 1, i - 1, i, i + 1}
                may[h, i, drawn[h, i]] = True
    may[:, [0, n - 1]] = True
    may = may.repeat(b, 1).repeat(b, 2)
    want = softmax(np.where(may, score, -np.inf)) @ v[0].numpy()
    equal(one(q, k, v, None, 0.3, whole(1, T))[0], want)


@pytest.mark.parametrize("T", [1, 5, 14])
def test_short_documents_are_read_in_full(T):
    q, k, v = qkv(T)
    got = made("block_sparse", block=2, random=1)(q, k, v, None, 0.3, whole(1, T))
    torch.testing.assert_close(got, kernels.attention(q, k, v, None, 0.3, 0.0), **CLOSE)


def sparse_but_two_steps_reach_all(one, T=60, most=26):
    """A middle token reads a fixed number of others; through the first block every token is two steps from every other."""
    may = reads(one, T)
    middle = may[T // 2 : T // 2 + 4].sum(1)
    return bool((middle <= most).all() and ((may.float() @ may.float()) > 0).all())


def test_blocks_are_sparse_and_connected():
    assert sparse_but_two_steps_reach_all(made("block_sparse", block=4, random=1))
    assert not sparse_but_two_steps_reach_all(made("softmax"))  # not sparse
    assert not sparse_but_two_steps_reach_all(made("windowed", window=24))  # not connected


def test_the_draw_depends_on_seed_and_head_and_covers_the_document():
    n = 40
    a, b = (made("block_sparse", block=1, random=3, seed=s).draw(torch.tensor([n]), n)[0, :, 1:-1] for s in (0, 1))
    assert not torch.equal(a, b) and not torch.equal(a[0], a[1])
    # 38 blocks draw 3 of 35 others in two heads: 228 draws, 6 for each block, none left out but by a chance of 38 e^-6
    counts = torch.bincount(a.flatten(), minlength=n)
    assert counts[0] == counts[-1] == 0 and (counts[1:-1] > 0).all() and counts.max() < 20


# ---- Nystroem


def test_nystrom_is_its_formula():
    T, M = 12, 4
    q, k, v = (x[0].numpy().astype(np.float64) for x in qkv(T))
    mean = lambda x: x.reshape(N, M, T // M, H).mean(2)  # noqa: E731
    scores = lambda a, b: softmax(a @ b.transpose(0, 2, 1) * 0.3)  # noqa: E731
    left, middle, right = scores(q, mean(k)), scores(mean(q), mean(k)), scores(mean(q), k)
    # many steps, so that the iteration stands at the pseudo-inverse
    want = left @ np.linalg.pinv(middle) @ right @ v
    got = made("nystrom", landmarks=M, steps=30)(*qkv(T), None, 0.3, whole(1, T))
    np.testing.assert_allclose(
        got[0].numpy(), want, rtol=1e-2, atol=1e-2
    )  # float32, an inverse of a nearly singular matrix


def near_softmax(one, T=10):
    q, k, v = qkv(T)
    want = kernels.attention(2 * q, k, v, None, 0.5, 0.0)
    return float((one(2 * q, k, v, None, 0.5, whole(1, T)) - want).norm() / want.norm())


def test_landmarks_for_all_tokens_make_softmax_attention():
    """The plain pieces: linear attention, and as few landmarks as one, which is the mean of all values."""
    assert near_softmax(made("nystrom", landmarks=10, steps=20)) < 0.02
    assert near_softmax(made("linear")) > 0.2 and near_softmax(made("nystrom", landmarks=1)) > 0.2


def test_a_convolution_of_the_values_stands_beside_the_core():
    q, k, v = qkv(7)
    one = made("value_conv", inner=core("softmax"), kernel=3)
    w = one.taps.weight.detach().numpy()
    wide = np.pad(v.numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)))
    conv = sum(w[None, :, j, None, None] * wide[:, :, j : j + 7] for j in range(3))
    equal(one(q, k, v, None, 0.3, whole(1, 7)), kernels.attention(q, k, v, None, 0.3, 0.0).numpy() + conv)
    with pytest.raises(ValueError, match="odd number of taps"):
        made("value_conv", inner=core("softmax"), kernel=4)


# ---- Luna


def side_by_side(first, rest, x, layout):
    """Two layers of the mixer alone, the second reading the side sequence of the first."""
    y = first(x, layout)
    return y, rest(x, layout)


def test_luna_is_its_formula_over_two_layers():
    T = 6
    first, rest = piece("mixer/luna", length=3), piece("mixer/luna", length=0)
    x, layout = draws(1, T, DIM), whole(1, T).fresh()
    got = side_by_side(first, rest, x, layout)

    def layer(model, side):
        w = {
            n: (m.weight.detach().numpy(), m.bias.detach().numpy())
            for n, m in model.named_children()
            if n not in ("start", "norm")
        }
        on = lambda n, z: (z @ w[n][0].T + w[n][1]).reshape(len(z), N, -1).transpose(1, 0, 2)  # noqa: E731

        def attend(q, k, v):
            y = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(H)) @ v
            return y.transpose(1, 0, 2).reshape(-1, DIM)

        X = x[0].numpy()
        packed_side = attend(on("pack_q", side), on("pack_k", X), on("pack_v", X))
        y = attend(on("q", X), on("k", packed_side), on("v", packed_side))
        return y @ w["out"][0].T + w["out"][1], packed_side + side

    want, left = layer(first, first.start.weight.detach().numpy())
    equal(got[0][0], want)
    equal(layout.scratch["luna"][0], layer(rest, rest.norm(torch.tensor(left), layout).detach().numpy())[1])
    equal(got[1][0], layer(rest, rest.norm(torch.tensor(left), layout).detach().numpy())[0])


def carried(rest):
    """Whether what the second layer gives depends on the first layer's weights, given the same tokens."""
    x, outs = draws(1, 6, DIM), []
    for seed in (1, 2):
        first = wake(mixer("luna", length=3).build(DIM, N).eval(), seed=seed)
        outs.append(side_by_side(first, rest, x, whole(1, 6).fresh())[1])
    return not torch.allclose(*outs, **CLOSE)


def test_the_side_sequence_is_carried_and_a_new_one_is_not():
    assert carried(piece("mixer/luna", length=0))
    assert not carried(piece("mixer/luna", length=3))  # starts again
    with pytest.raises(ValueError, match="no earlier layer left a side sequence"):
        piece("mixer/luna", length=0)(draws(1, 6, DIM), whole(1, 6).fresh())


def test_an_encoder_with_one_side_sequence_trains_every_weight():
    spec = encoder_spec()
    block = spec.get("blocks.0")
    spec = spec.replace("blocks", [block.replace("mixer", mixer("luna", length=n)) for n in (4, 0)])
    model = build(spec).train()
    token, layout = padded(documents((16, 12, 16, 9) * 4, seed=5))
    x = states(model(token, layout), layout)
    (x * draws(*x.shape, seed=3)).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_luna_learns_masked_words():
    block = encoder_spec().get("blocks.0")
    spec = encoder_spec().replace("blocks", [block.replace("mixer", mixer("luna", length=n)) for n in (4, 0)])
    learner = build_learner(spec, [], example("objective", "masked_lm"), seed=0)
    optimiser, losses = torch.optim.AdamW(learner.parameters(), lr=3e-3), []
    for step in range(110):
        with kernels.seeded(0, step):
            batch = corrupted(learner.objective, language(16, step), step)
            loss = learner.objective(learner.encoder, batch)["loss"]
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses[::10]


# ---- PoNet


def test_ponet_is_its_formula():
    T, segment = 11, 4
    model, x = piece("mixer/ponet", segment=segment), draws(1, T, DIM)
    w = {n: (m.weight.detach().numpy(), m.bias.detach().numpy()) for n, m in model.named_children()}
    h = {n: x[0].numpy() @ w[n][0].T + w[n][1] for n in w}
    split = lambda z: z.reshape(-1, N, H).transpose(1, 0, 2)  # noqa: E731
    g = softmax(split(h["q"].mean(0)[None]) @ split(h["k"]).transpose(0, 2, 1) / math.sqrt(H)) @ split(h["v"])
    g = g.transpose(1, 0, 2).reshape(1, DIM)
    s = np.concatenate(
        [np.repeat(h["s"][i : i + segment].max(0)[None], len(h["s"][i : i + segment]), 0) for i in range(0, T, segment)]
    )
    near = np.stack([h["l"][max(0, t - 1) : t + 2].max(0) for t in range(T)])
    want = (g * h["o"] + s * h["o"] + near) @ w["out"][0].T + w["out"][1]
    equal(model(x, whole(1, T))[0], want)


def test_segments_are_those_that_the_layout_names():
    x, T = draws(1, 12, DIM), 12
    layout = whole(1, T)
    layout.extra["sentence"] = torch.arange(T)[None] // 4 + 5
    model, other = piece("mixer/ponet", segment=32), piece("mixer/ponet", segment=4)
    torch.testing.assert_close(model(x, layout.fresh()), other(x, whole(1, T)), **CLOSE)
    assert not torch.allclose(model(x, whole(1, T)), other(x, whole(1, T)), **CLOSE)


def pools_by_segment(model):
    """A maximum that is raised in a segment is felt, beside the whole document's share, in that segment alone."""
    T, x = 16, draws(1, 16, DIM)
    with torch.no_grad():
        for name in ("q", "k", "v", "l"):  # the other two poolings are silent
            if name in dict(model.named_children()):
                model.get_submodule(name).weight.zero_()
                model.get_submodule(name).bias.zero_()
    other = x.clone()
    other[0, 5] += 3
    felt = (model(x, whole(1, T)) - model(other, whole(1, T)))[0].abs().amax(-1) > 1e-5
    return felt.nonzero()[:, 0].tolist() == [4, 5, 6, 7]


def test_ponet_pools_by_segment_and_attention_does_not():
    assert pools_by_segment(piece("mixer/ponet", segment=4))
    assert not pools_by_segment(piece("mixer/ponet", segment=16))
    assert not pools_by_segment(piece("core/softmax"))


# ---- rows


def test_documents_and_back():
    docs = documents((9, 6, 4))
    _, layout = packed(docs, [[0, 1], [2]], 16)
    x = draws(2, N, 16, H)
    (y,), keep = rows.documents(layout, x)
    assert y.shape == (3, N, 9, H) and keep.sum(1).tolist() == [9, 6, 4]
    back = rows.packed(layout, y)
    torch.testing.assert_close(back, torch.where(layout.real_BT[:, None, :, None], x, 0), rtol=0, atol=0)
    with pytest.raises(ValueError, match="a core of linear cost reads its own row's tokens only"):
        rows.documents(layout, x[:, :, :7])
