"""Pieces of ALBERT, ConvBERT, FNet, LayoutLM, RemBERT, SqueezeBERT and MobileBERT: formulas, and what the papers claim.

A claim is a function `holds`; it is asked of the piece and of the plain thing in its place, for which it must not hold.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import DIM, HEADS, build, encoder_spec, padded, wake

from bertsmith import tap
from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import families
from bertsmith.hf.albert import shared
from bertsmith.hf.bert import bert_encoder
from bertsmith.layout import Layout
from bertsmith.linear import GroupedLinear, Linear
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool
from bertsmith.position import position
from bertsmith.residual import residual

transformers = pytest.importorskip("transformers")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layout(*lengths):
    """Rows of these lengths, as wide as the longest."""
    return Layout.padded((torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long())


def arrays(piece):
    return {k: v.detach().numpy() for k, v in piece.named_parameters()}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normal(x, eps=1e-12):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


# ---- convolution in the place of half the heads


def conv_attention(**settings):
    return wake(mixer("conv_attention", kernel=3, **settings).build(DIM, HEADS))


def test_conv_attention_is_its_formula():
    piece, x = conv_attention(), draws(1, 6, DIM)
    w, x_TD, T, H = arrays(piece), x[0].numpy(), 6, DIM // 2
    line = lambda name, x: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # noqa: E731
    q, k, v, value = (line(n, x_TD) for n in ("q", "k", "v", "conv"))
    attention = softmax(q @ k.T / np.sqrt(H)) @ v
    at = lambda x, t: x[t] if 0 <= t < T else np.zeros_like(x[0])  # noqa: E731
    span = np.stack([sum(w["depth.weight"][:, j] * at(x_TD, t + j - 1) for j in range(3)) for t in range(T)])
    kernel = softmax(line("kernels", q * line("point", span)))
    conv = np.stack([sum(kernel[t, j] * at(value, t + j - 1) for j in range(3)) for t in range(T)])
    want = line("out", np.concatenate([attention, conv], -1))
    np.testing.assert_allclose(piece(x, layout(6))[0].detach().numpy(), want, **CLOSE)


def kernels_of(piece, x, place):
    """What the softmax over the kernel is taken of, [B, T, N * J]."""
    found = []
    with tap.see(piece, "kernels", lambda path, given, out: found.append(out)):
        piece(x, place)
    return found[0]


def test_a_kernel_depends_on_the_span_and_not_on_the_token_alone():
    """The paper's point against dynamic convolution: one word has different kernels in different surroundings."""

    def holds(piece):
        x = draws(2, 7, DIM)
        x[1, 3] = x[0, 3]  # one token, two surroundings
        one, two = kernels_of(piece, x, layout(7, 7))[:, 3]
        return bool((one - two).abs().max() > 0.01)

    plain = conv_attention()
    with torch.no_grad():
        plain.depth.weight[:, [0, 2]] = 0.0  # the token alone: dynamic convolution
    assert holds(conv_attention()) and not holds(plain)


def test_the_convolution_is_local_and_ends_with_its_document():
    def holds(piece):
        x, place = (
            draws(1, 9, DIM),
            Layout.of(torch.tensor([[1] * 5 + [2] * 4]), torch.tensor([[*range(5), *range(4)]])),
        )
        other = x.clone()
        other[0, 5] += 1.0  # the first token of the second document
        with torch.no_grad():
            moved = piece(x, place) - piece(other, place)
        return bool(moved[0, :5].abs().max() == 0 and moved[0, 6].abs().max() > 0)

    crossing = conv_attention()
    whole = Layout.padded(torch.ones(1, 9))
    crossing._convolution = lambda q, x, place: type(crossing)._convolution(crossing, q, x, whole)
    assert holds(conv_attention()) and not holds(crossing)


def test_conv_attention_refuses_what_has_no_middle_or_no_half():
    with pytest.raises(ValueError, match="kernel of 4 places has no middle"):
        mixer("conv_attention", kernel=4).build(DIM, HEADS)
    with pytest.raises(ValueError, match="width 18 is not a multiple of 2 heads"):
        mixer("conv_attention").build(18, 4)


# ---- Fourier


def packed(lengths, width):
    segment, place = torch.zeros(1, width, dtype=torch.int64), torch.zeros(1, width, dtype=torch.int64)
    at = 0
    for i, n in enumerate(lengths):
        segment[0, at : at + n], place[0, at : at + n] = i + 1, torch.arange(n)
        at += n
    return Layout.of(segment, place)


def test_fourier_is_the_transform_of_every_document_at_its_own_length():
    def holds(mix):
        x = draws(1, 12, DIM)
        y = mix(x, packed([5, 4], 12))[0].numpy()
        want = [np.fft.fft2(x[0, a:b].numpy()).real for a, b in ((0, 5), (5, 9))]
        return np.allclose(y[:9], np.concatenate(want), rtol=1e-4, atol=1e-4)  # sums of 80 numbers

    piece = mixer("fourier").build(DIM, HEADS)
    assert holds(piece)
    assert not holds(lambda x, place: torch.fft.fft2(x).real)  # the whole row, as the reference


def test_fourier_has_nothing_to_learn_and_its_two_ways_are_one():
    piece, x = mixer("fourier").build(DIM, HEADS), draws(2, 8, DIM)
    assert not list(piece.parameters())
    whole = Layout.padded(torch.ones(2, 8), whole=True)
    torch.testing.assert_close(piece(x, whole), piece(x, layout(8, 8)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(piece(x, whole).numpy(), np.fft.fft2(x.numpy()).real, rtol=1e-4, atol=1e-4)


def test_fourier_is_exact_at_large_places():
    """The product of two places is taken modulo the length before it becomes an angle."""
    n = 1500
    x = draws(1, n, 2)
    got = mixer("fourier").build(2, 1)(x, layout(n))
    want = np.fft.fft2(x[0].double().numpy()).real
    assert np.abs(got[0].numpy() - want).max() / np.abs(want).std() < 1e-4


# ---- boxes on a page


def boxes(rows, width, size, seed=0):
    g = torch.Generator().manual_seed(seed)
    low, more = (torch.randint(0, size // 2, (rows, width, 2), generator=g) for _ in range(2))
    return torch.cat([low, low + more], -1)


def with_boxes(place, box):
    place.extra["box"] = box
    return place


def test_layout2d_is_its_formula():
    piece, x, box = wake(position("layout2d", length=9, size=20).build(DIM, 1, DIM)), draws(2, 6, DIM), boxes(2, 6, 20)
    w = {k: v for k, v in arrays(piece).items()}
    table = lambda name, index: w[f"{name}.weight"][index]  # noqa: E731
    x0, y0, x1, y1 = box.numpy().transpose(2, 0, 1)
    want = x.numpy() + table("table", np.arange(6)) + table("x", x0) + table("y", y0) + table("x", x1) + table("y", y1)
    want = want + table("h", y1 - y0) + table("w", x1 - x0)
    got = piece.add(x, with_boxes(layout(6, 6), box))
    np.testing.assert_allclose(got.detach().numpy(), want, **CLOSE)
    silent, zero = piece.add(x, layout(6, 6)), piece.add(x, with_boxes(layout(6, 6), torch.zeros_like(box)))
    assert torch.equal(silent, zero), "without boxes, all are (0, 0, 0, 0)"


def test_the_page_is_known_beside_the_order():
    """The same text elsewhere on the page is another input; a BERT does not see the page."""

    def holds(kind):
        spec = encoder_spec().replace("embedding.position", position(kind, length=64))
        model, (token, place) = build(spec), padded([torch.arange(2, 9)])
        with torch.no_grad():
            here, there = (model(token, with_boxes(place, boxes(1, 7, 1000, seed))) for seed in (0, 1))
        return bool((here - there).abs().max() > 0.01)

    assert holds("layout2d") and not holds("learned")


# ---- groups


def test_a_grouped_layer_is_a_convolution_of_width_one_in_groups():
    layer, x = wake(GroupedLinear(12, 8, 4)), draws(2, 5, 12)
    want = F.conv1d(x.transpose(1, 2), layer.weight[..., None], layer.bias, groups=4).transpose(1, 2)
    torch.testing.assert_close(layer(x), want, **CLOSE)
    with pytest.raises(ValueError, match="from 12 to 9 has no 4 groups"):
        GroupedLinear(12, 9, 4)


def test_each_group_has_its_own_part_and_a_share_of_the_weights():
    def holds(layer):
        x = draws(1, 12)
        other = x.clone()
        other[:, 3:] += 1  # what the first group does not see
        same = torch.equal(layer(x)[:, :2], layer(other)[:, :2])
        return same and layer.weight.numel() == 12 * 8 // 4

    assert holds(wake(GroupedLinear(12, 8, 4))) and not holds(wake(Linear(12, 8)))


def test_grouped_attention_and_feed_forward_with_one_group_are_the_usual():
    one = {k: 1 for k in ("q_groups", "k_groups", "v_groups", "out_groups")}
    x, place = draws(2, 6, DIM), layout(6, 4)
    for grouped, usual in (
        (mixer("grouped_attention", **one).build(DIM, HEADS), mixer("attention").build(DIM, HEADS)),
        (ffn("grouped_mlp", hidden=8, up_groups=1, down_groups=1).build(DIM), ffn("mlp", hidden=8).build(DIM)),
    ):
        usual.load_state_dict(wake(grouped).state_dict())
        torch.testing.assert_close(grouped(x, place), usual(x, place), **CLOSE)


# ---- MobileBERT


def test_scale_and_shift_has_no_statistics():
    """What a norm without statistics is for: f(x) - f(0) is linear, so that it folds into a matrix."""

    def holds(kind):
        f, x = wake(norm(kind).build(DIM)), draws(1, 3, DIM)
        zero = f(torch.zeros_like(x), layout(3))
        return torch.allclose(f(2 * x, layout(3)) - zero, 2 * (f(x, layout(3)) - zero), rtol=1e-4, atol=1e-5)

    piece, x = wake(norm("affine").build(DIM)), draws(1, 3, DIM)
    torch.testing.assert_close(piece(x, layout(3)), x * piece.weight + piece.bias)
    assert holds("affine") and not holds("layer")


def trigram(**settings):
    order, none = position("none"), norm("none")
    return wake(embedding("trigram", vocab=20, width=4, position=order, norm=none, **settings).build(DIM, HEADS))


def test_the_trigram_embedding_is_a_convolution_over_three_tokens():
    piece, token = trigram(), torch.arange(5, 12)[None]
    after, here, before = piece.project.weight.unflatten(1, (3, -1)).unbind(1)
    want = F.conv1d(
        piece.table(token).transpose(1, 2), torch.stack([before, here, after], -1), piece.project.bias, padding=1
    )
    torch.testing.assert_close(piece(token, layout(7)), want.transpose(1, 2), **CLOSE)
    with pytest.raises(ValueError, match="span of 2 tokens has no middle"):
        trigram(span=2)


def test_the_trigram_sees_both_neighbours_and_no_further():
    def holds(piece):
        token = torch.arange(5, 12)[None]
        other = token.clone()
        other[0, 3] = 19
        moved = (piece(token, layout(7)) - piece(other, layout(7))).abs().amax(-1)[0] > 0
        return moved.tolist() == [False, False, True, True, True, False, False]

    assert holds(trigram()) and not holds(trigram(span=1))


@pytest.mark.parametrize("split", [True, False])
def test_the_bottleneck_is_its_formula(split):
    ln = norm("layer")
    spec = block("bottleneck", width=8, ffn=ffn("mlp", hidden=6), residual=residual("post", norm=ln), norm=ln, count=2,
                 split=split)  # fmt: skip
    piece, x = wake(spec.build(DIM, 1, 0, 1)), draws(1, 5, DIM)
    w, x_TD = arrays(piece), x[0].numpy()
    line = lambda name, x: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # noqa: E731
    ln_of = lambda name, x: normal(x) * w[f"{name}.weight"] + w[f"{name}.bias"]  # noqa: E731
    h = ln_of("down_norm", line("down", x_TD))
    a = ln_of("down_qk_norm", line("down_qk", x_TD)) if split else h
    score = line("mixer.q", a) @ line("mixer.k", a).T / np.sqrt(8)
    y = softmax(score) @ line("mixer.v", x_TD if split else h)
    h = ln_of("mixer_residual.norm", h + line("mixer.out", y))
    gelu = lambda x: F.gelu(torch.from_numpy(x)).numpy()  # noqa: E731
    for i in range(2):
        h = ln_of(f"ffn_residuals.{i}.norm", h + line(f"ffns.{i}.down", gelu(line(f"ffns.{i}.up", h))))
    want = ln_of("out_residual.norm", x_TD + line("up", h))
    np.testing.assert_allclose(piece(x, layout(5))[0].detach().numpy(), want, rtol=1e-4, atol=2e-5)


def test_a_narrow_width_must_hold_its_heads():
    ln = norm("layer")
    spec = block("bottleneck", width=6, ffn=ffn("mlp", hidden=6), residual=residual("post", norm=ln), norm=ln)
    with pytest.raises(ValueError, match="narrow width 6 is not a multiple of 4 heads"):
        spec.build(DIM, 4, 0, 1)


# ---- heads over the vocabulary


def narrow():
    """An encoder whose token table is half as wide as it is."""
    return build(encoder_spec().replace("embedding.width", DIM // 2))


def test_a_stretched_head_multiplies_with_the_table_and_the_rest():
    encoder, h = narrow(), draws(3, DIM)
    piece = wake(heads("stretched_lm", norm=norm("layer")).build(encoder, 0))
    w = arrays(piece)
    hidden = (
        normal(np.maximum(h.numpy() @ w["dense.weight"].T + w["dense.bias"], 0)) * w["norm.weight"] + w["norm.bias"]
    )
    table = np.concatenate([encoder.embedding.table.weight.detach().numpy(), w["rest.weight"]], -1)
    np.testing.assert_allclose(piece.logits(h, layout(1)).detach().numpy(), hidden @ table.T + w["bias"], **CLOSE)


def test_a_decoupled_head_is_its_formula_and_leaves_the_input_table_alone():
    def holds(kind, **settings):
        encoder = narrow()
        piece = wake(heads(kind, norm=norm("layer"), **settings).build(encoder, 0))
        piece.logits(draws(3, DIM), layout(1)).square().sum().backward()
        return encoder.embedding.table.weight.grad is None

    assert holds("decoupled_lm", width=24) and not holds("masked_lm")
    piece, h = wake(heads("decoupled_lm", norm=norm("layer"), width=24, act="relu").build(narrow(), 0)), draws(3, DIM)
    w = arrays(piece)
    hidden = (
        normal(np.maximum(h.numpy() @ w["dense.weight"].T + w["dense.bias"], 0)) * w["norm.weight"] + w["norm.bias"]
    )
    want = hidden @ w["table.weight"].T + w["table.bias"]
    np.testing.assert_allclose(piece.logits(h, layout(1)).detach().numpy(), want, **CLOSE)


def test_any_lm_head_stands_beside_the_pairs():
    encoder, place = narrow(), layout(6, 4)
    lm = heads("stretched_lm", norm=norm("layer"))
    piece = wake(heads("lm_with_pairs", masked_lm=lm, pool=pool("first"), dropout=0.5).build(encoder, 0).eval())
    x = draws(2, 6, DIM)
    torch.testing.assert_close(piece.follows(x, place), piece.next(x[:, 0]))
    assert torch.equal(piece(x, place), piece.masked_lm(x, place))


# ---- sizes that the papers give


def size(spec):
    """Parameters of the encoder and a pooler."""
    with torch.device("meta"):
        encoder = spec.build()
    return sum(p.numel() for p in encoder.parameters()) + encoder.dim * (encoder.dim + 1)


def stock(kind, **fields):
    config = getattr(transformers, kind)(**fields).to_dict()
    return families()[config["model_type"]].spec(config)


BERT = bert_encoder(12, 768, 12, 30522)
ALBERT = stock("AlbertConfig", hidden_size=768, num_attention_heads=12, intermediate_size=3072)
REMBERT = stock("RemBertConfig")
# (the encoder, millions of parameters in its paper, the plain one)
SIZES = {
    "ALBERT base": (ALBERT, 12, ALBERT.replace("share", [])),
    "ALBERT base, not shared": (ALBERT.replace("share", []), 89, ALBERT),
    "ConvBERT base": (stock("ConvBertConfig"), 106, BERT),
    "RemBERT, fine-tuned": (REMBERT, 575, REMBERT.replace("embedding.width", 0)),
    "SqueezeBERT": (stock("SqueezeBertConfig"), 51.1, BERT),
    "MobileBERT": (stock("MobileBertConfig"), 25.3, BERT),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_as_many_as_in_the_paper(name):
    spec, millions, plain = SIZES[name]
    holds = lambda one: abs(size(one) / millions / 1e6 - 1) < 0.03  # noqa: E731  # 11.7 is 12 there
    assert holds(spec) and not holds(plain)


def test_layers_are_shared_as_in_the_reference():
    for layers, groups, inner in ((12, 1, 1), (5, 2, 2), (7, 3, 1), (4, 4, 2), (6, 4, 1), (1, 1, 1)):
        fields = {"vocab_size": 9, "embedding_size": 4, "hidden_size": 8, "num_attention_heads": 1}
        said = {"num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
        model = stock("AlbertConfig", intermediate_size=8, **fields, **said).build()
        made = [id(layer) for layer in model.layers]
        want = [(int(i / (layers / groups)), j) for i in range(layers) for j in range(inner)]
        assert [made.index(m) for m in made] == [want.index(w) for w in want]
        assert len(shared(layers, groups, inner)) <= groups * inner


# ---- neither attention nor a Fourier transform: recurrence and convolution alone


def packed_rows():
    """Two rows: documents of 4 and 3 tokens with one of padding, and one of 8."""
    segment = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0], [1] * 8])
    place = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0], list(range(8))])
    return Layout.of(segment, place), [(0, 0, 4), (0, 4, 7), (1, 0, 8)]


def test_the_lstm_mixer_is_torchs_on_every_document():
    piece = mixer("lstm", hidden=6).build(DIM, HEADS)
    theirs = torch.nn.LSTM(DIM, 6, batch_first=True, bidirectional=True)
    for name, value in piece.ahead.named_parameters():
        theirs.get_parameter(name).data.copy_(value)
        theirs.get_parameter(f"{name}_reverse").data.copy_(piece.back.get_parameter(name))
    at, spans = packed_rows()
    x = draws(2, 8, DIM).requires_grad_()
    got = piece(x, at)
    for row, start, end in spans:
        want = piece.out(theirs(x[row : row + 1, start:end])[0])[0]
        torch.testing.assert_close(got[row, start:end], want, **CLOSE)
        torch.testing.assert_close(
            torch.autograd.grad(got[row, start:end].square().sum(), x, retain_graph=True)[0],
            torch.autograd.grad(want.square().sum(), x)[0],
            **CLOSE,
        )
    with pytest.raises(ValueError, match="a source of the same 8 tokens, not of 5"):
        piece(x, at, (x[:, :5], at))


def test_the_gated_convolution_is_its_formula_on_every_document():
    piece = wake(mixer("gated_cnn", kernel=5).build(DIM, HEADS))
    weight_GJD = piece.conv.weight.detach().unflatten(1, (5, DIM))
    at, spans = packed_rows()
    x = draws(2, 8, DIM)
    got = piece(x, at).detach()
    for row, start, end in spans:
        both = F.conv1d(x[row, start:end].T, weight_GJD.transpose(1, 2), piece.conv.bias.detach(), padding=2).T
        torch.testing.assert_close(got[row, start:end], both[:, :DIM] * both[:, DIM:].sigmoid(), **CLOSE)
    with pytest.raises(ValueError, match="choose an odd number"):
        mixer("gated_cnn", kernel=4).build(DIM, HEADS)
    with pytest.raises(ValueError, match="a source of the same 8 tokens, not of 5"):
        piece(x, at, (x[:, :5], at))
