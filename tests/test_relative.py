"""Relative positions: disentangled attention, T5's buckets, the convolution beside a block, and the enhanced mask decoder."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy import DIM, HEADS, build, documents, encoder_spec, example, packed, padded, states, wake

from bertsmith.block import block
from bertsmith.edit import edit as edits
from bertsmith.layout import Layout
from bertsmith.linear import bake, edit
from bertsmith.mixer import mixer
from bertsmith.objective import objective
from bertsmith.position import position

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order
H = DIM // HEADS


def spread(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def piece(kind, **settings):
    return wake(position(kind, **settings).build(DIM, HEADS, H).eval())


def row(tokens, shift=0):
    """One document; `shift` moves its places, all alike."""
    T = len(tokens)
    layout = Layout.of(torch.ones(1, T, dtype=torch.long), torch.arange(T)[None] + shift)
    return torch.tensor([tokens]), layout


def relative(place):
    """An encoder in which only `place` knows the order."""
    spec = encoder_spec().replace("embedding.position", position("none"))
    return build(spec.replace("blocks.*.mixer.position", place))


# ---- the formulas


def np_log_bucket(d, buckets, span):
    """The released code's: exact up to half the buckets, then the ceiling of a logarithm."""
    middle = buckets // 2
    if abs(d) <= middle:
        return d
    log = math.ceil(np.float32(math.log(abs(d) / middle) / math.log((span - 1) / middle) * (middle - 1)))
    return int(math.copysign(middle + log, d))


@pytest.mark.parametrize("buckets,span", [(6, 12), (32, 128), (256, 512)])
def test_logarithmic_buckets(buckets, span):
    found = piece("disentangled", span=span, buckets=buckets).bucket(torch.arange(-3 * span, 3 * span + 1))
    want = [np_log_bucket(d, buckets, span) for d in range(-3 * span, 3 * span + 1)]
    assert found.tolist() == want
    near, far = buckets // 2, span - 1
    zero = 3 * span
    assert found[zero : zero + near + 1].tolist() == list(range(near + 1)) and found[zero + far] == 2 * near - 1


@pytest.mark.parametrize("buckets", [0, 6])
@pytest.mark.parametrize("kinds", [["c2p", "p2c"], ["c2p"], ["p2c"]], ids="+".join)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_disentangled_scores(buckets, kinds, shared):
    """Eq. 3 and 4, pair by pair in NumPy, for readers and read that are not the same tokens."""
    span, T, S = 12, 19, 17
    place = piece("disentangled", span=span, buckets=buckets, kinds=kinds, shared=shared)
    attention = wake(mixer("attention", position=position("disentangled", kinds=kinds)).build(DIM, HEADS))
    assert attention.scale == pytest.approx(1 / math.sqrt(H * (1 + len(kinds))))
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, HEADS, T, H, generator=g), torch.randn(1, HEADS, S, H, generator=g)
    w = {"q": torch.randn(DIM, DIM, generator=g), "k": torch.randn(DIM, DIM, generator=g)}
    heads = lambda x: x.unflatten(-1, (HEADS, H)).transpose(1, 2)  # noqa: E731
    at, to = row([0] * T)[1], row([0] * S, shift=2)[1]
    with torch.no_grad():
        found = place.score(q, k, at, to, (lambda x: heads(x @ w["q"].T), lambda x: heads(x @ w["k"].T)))[0].numpy()
        table = place.table.weight
        to_key = (lambda r: r @ w["k"].T) if shared else place.key
        to_query = (lambda r: r @ w["q"].T) if shared else place.query
        key = heads(to_key(table)[None])[0].numpy() if "c2p" in kinds else None
        query = heads(to_query(table)[None])[0].numpy() if "p2c" in kinds else None
    reach, q, k = buckets or span, q[0].numpy(), k[0].numpy()
    for n in range(HEADS):
        for i in range(T):
            for j in range(S):
                d = i - (j + 2)
                d = np_log_bucket(d, buckets, span) if buckets else d
                r = min(max(d + reach, 0), 2 * reach - 1)
                want = q[n, i] @ key[n, r] if key is not None else 0
                want = want + (k[n, j] @ query[n, r] if query is not None else 0)
                # a sum of 16 products of numbers near 1
                assert found[n, i, j] == pytest.approx(want / math.sqrt(H * (1 + len(kinds))), rel=1e-4, abs=1e-4)


def np_t5_bucket(d, buckets, far):
    """Of j - i, as in section 2.1's footnote and its code: a direction's half, single distances, then logarithms."""
    half = buckets // 2
    exact, n = half // 2, abs(d)
    log = np.float32(math.log(max(n, exact) / exact) / math.log(far / exact) * (half - exact))
    return (half if d > 0 else 0) + (n if n < exact else min(exact + int(log), half - 1))


@pytest.mark.parametrize("buckets,far", [(32, 128), (8, 12)])
def test_t5_buckets(buckets, far):
    place = piece("t5_buckets", buckets=buckets, far=far)
    at, to = row([0] * 150)[1], row([0] * 3, shift=140)[1]
    q = torch.zeros(1, HEADS, 1, H)
    found, table = place.score(q, q, at, to, (None, None))[0], place.table.weight
    for i in range(150):
        for j in range(3):
            assert torch.equal(found[:, i, j], table[np_t5_bucket(j + 140 - i, buckets, far)])


def test_a_convolution_beside_a_block():
    """As torch's own convolution says, on a whole document; and none of it crosses into the next one."""
    inner = encoder_spec().get("blocks.0")
    piece = wake(
        block("beside_conv", inner=inner, norm=example("norm", "layer"), width=5).build(DIM, HEADS, 0, 2)
    ).eval()
    token, layout = row([0] * 11)
    x = spread(1, 11, DIM)
    weight = torch.stack([tap.weight for tap in piece.taps], -1)
    conv = F.conv1d(x.transpose(1, 2), weight, piece.taps[0].bias, padding=2).transpose(1, 2)
    want = piece.norm(piece.inner(x, layout) + conv.tanh(), layout)
    torch.testing.assert_close(piece(x, layout), want, **CLOSE)
    two = Layout.of(torch.tensor([[1] * 6 + [2] * 5]), torch.tensor([[*range(6), *range(5)]]))
    y = piece(x, two)
    torch.testing.assert_close(y[:, :6], piece(x[:, :6], row([0] * 6)[1]), **CLOSE)
    torch.testing.assert_close(y[:, 6:], piece(x[:, 6:], row([0] * 5)[1]), **CLOSE)


# ---- what each is for; every property fails with the plain piece


def tells_order(encoder):
    """The first token knows in which order the others stand."""
    a, b = row([2, 11, 12, 13, 14]), row([2, 13, 12, 11, 14])
    return (encoder(*a) - encoder(*b))[0, 0].abs().max().item() > 1e-3


def counts_from_anywhere(encoder):
    """Only distances count: the places may begin anywhere."""
    return torch.allclose(encoder(*row([2, 11, 12, 13, 14], shift=9)), encoder(*row([2, 11, 12, 13, 14])), atol=1e-5)


@pytest.mark.parametrize("kind", ["disentangled", "t5_buckets"])
def test_order_is_told_by_distances_alone(kind):
    encoder = relative(position(kind))
    assert tells_order(encoder) and counts_from_anywhere(encoder)
    assert not tells_order(relative(position("none")))
    assert not counts_from_anywhere(build(encoder_spec()))  # a learned table of places


def what_is_said_counts(place):
    """The term of a distance is another for another word, at the reader's and at the read end."""
    g = torch.Generator().manual_seed(0)
    q, k, other = (torch.randn(1, HEADS, 5, H, generator=g) for _ in range(3))
    layout, split = row([0] * 5)[1], lambda x: x.unflatten(-1, (HEADS, H)).transpose(1, 2)
    term = lambda q, k: place.score(q, k, layout.fresh(), layout, (split, split))  # noqa: E731
    return not torch.allclose(term(q, k), term(other, k)) and not torch.allclose(term(q, k), term(q, other))


def test_only_disentangled_terms_depend_on_what_is_said():
    assert what_is_said_counts(piece("disentangled"))
    assert not what_is_said_counts(piece("disentangled", kinds=["c2p"]))  # the reader's word only
    assert not what_is_said_counts(piece("disentangled", kinds=["p2c"]))  # the read one's only
    assert not what_is_said_counts(piece("t5_buckets"))


def far_is_alike(place, near, far):
    """Scores do not tell distances beyond `far` from one another, and do tell those up to `near`."""
    split = lambda x: x.unflatten(-1, (HEADS, H)).transpose(1, 2)  # noqa: E731
    T = 3 * far
    q = torch.ones(1, HEADS, T, H)
    line = place.score(q, q, row([0] * T)[1], row([0] * T)[1], (split, split))[0, 0, :, 0].detach()
    alike = torch.allclose(line[far:], line[-1], atol=1e-6)
    return alike and len(line[: near + 1].unique()) == near + 1


def test_far_distances_share_a_row_and_near_ones_do_not():
    assert far_is_alike(piece("disentangled", span=12), near=11, far=12)
    assert far_is_alike(piece("disentangled", span=12, buckets=6), near=3, far=12)
    assert far_is_alike(piece("t5_buckets", buckets=16, far=12), near=4, far=12)
    assert not far_is_alike(piece("disentangled", span=40), near=11, far=12)  # a row for every distance
    assert not far_is_alike(piece("disentangled", span=12, buckets=6), near=11, far=12)  # fewer rows than distances


def tells_neighbours(spec):
    """One layer with attention that knows no order tells which word stands beside a token."""
    encoder = build(encoder_spec().replace("embedding.position", position("none")).replace("blocks", [spec]))
    x, y = encoder.states(*row([2, 11, 12, 13, 14, 15]))[1], encoder.states(*row([2, 12, 11, 13, 14, 15]))[1]
    beside, away = (x - y)[0, 0].abs().max(), (x - y)[0, 5].abs().max()
    return beside.item() > 1e-3 and away.item() < 1e-5


def test_a_convolution_tells_neighbours():
    inner = encoder_spec().get("blocks.0")
    conv = block("beside_conv", inner=inner, norm=example("norm", "layer"))
    assert tells_neighbours(conv) and not tells_neighbours(inner)
    assert not tells_neighbours(conv.replace("width", 1))


def test_shared_projections_are_edited_and_folded_as_one():
    """An edit of k changes the scores of distances too and bakes away; no norm is folded into what the table also reads."""
    spec = encoder_spec().replace("blocks.*.mixer.position", position("disentangled", shared=True, kinds=["c2p"]))
    encoder, (token, layout) = build(spec), padded(documents())
    attention = encoder.layers[0].mixer
    assert attention.reads == ("q", "v")
    assert build(encoder_spec("position", "disentangled")).layers[0].mixer.reads == ("q", "k", "v")
    x = encoder(token, layout)
    edit(encoder, "**.mixer.k", edits("lora"))
    wake(encoder, "edits.")
    y = encoder(token, layout)
    assert not torch.allclose(states(y, layout), states(x, layout), atol=1e-3)
    bake(encoder)
    torch.testing.assert_close(states(encoder(token, layout), layout), states(y, layout), **CLOSE)


def test_settings_that_make_no_sense_are_refused():
    for settings in (
        {"kinds": []},
        {"kinds": ["p2p"]},
        {"kinds": ["c2p", "c2p"]},
        {"span": 4, "buckets": 6},
        {"buckets": 1},
    ):
        with pytest.raises(ValueError, match="say"):
            piece("disentangled", **settings)
    for settings in ({"buckets": 3}, {"buckets": 7}, {"buckets": 32, "far": 8}):
        with pytest.raises(ValueError, match="say an even number"):
            piece("t5_buckets", **settings)
    with pytest.raises(ValueError, match="once or more"):
        decoder(build(encoder_spec()), times=0)
    with pytest.raises(ValueError, match="odd width"):
        block("beside_conv", inner=encoder_spec().get("blocks.0"), norm=example("norm", "layer"), width=4).build(
            DIM, HEADS, 0, 2
        )


# ---- the enhanced mask decoder


def decoder(encoder, kind="enhanced_mask_decoder", only="", **settings):
    return wake(objective(kind, masking=example("masking", "bert"), **settings).build(encoder).eval(), only, seed=2)


def asks(tokens, places, shift=0):
    token, layout = row(tokens, shift)
    return {"token": token, "layout": layout, "asked": torch.tensor(places), "answer": token[0, places]}


def knows_the_place(objective, encoder):
    """Logits change when all places are moved alike, though the encoder's states do not."""
    a, b = (asks([2, 11, 4, 13, 4], [2, 4], shift) for shift in (0, 9))
    torch.testing.assert_close(encoder(b["token"], b["layout"]), encoder(a["token"], a["layout"]), **CLOSE)
    return (objective.predict(encoder, b)[0] - objective.predict(encoder, a)[0]).abs().max().item() > 1e-2


def test_absolute_places_enter_in_the_decoder_only():
    encoder = relative(position("disentangled"))
    emd = decoder(encoder)
    assert knows_the_place(emd, encoder)
    assert not knows_the_place(decoder(encoder, "masked_lm"), encoder)
    nn.init.zeros_(emd.place.weight)
    assert not knows_the_place(emd, encoder)


def tells_two_equal_masks_apart(objective, encoder):
    """Masks that see the same words at the same distances: "a new [MASK] opened beside the new [MASK]"."""
    logits = objective.predict(encoder, asks([11, 4, 11, 4, 11], [1, 3]))[0]
    return not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_the_decoder_tells_subject_from_object():
    """Section 1's example: with T5's distances that forget direction, two masks look alike until places are told."""
    encoder = relative(position("t5_buckets"))
    for layer in encoder.layers:
        half = layer.mixer.position.table.weight.data.chunk(2)
        half[1].copy_(half[0])  # to the left as to the right
    assert tells_two_equal_masks_apart(decoder(encoder), encoder)
    assert not tells_two_equal_masks_apart(decoder(encoder, "masked_lm"), encoder)


@pytest.mark.parametrize("residual", ["post", "pre"])
def test_one_decoder_layer_without_places_is_the_encoders_last_one(residual):
    """The appendix: with I = H and n = 1 it is BERT's own decoding."""
    spec = encoder_spec("position", "disentangled").replace("blocks.*.residual", example("residual", residual))
    encoder, (token, layout) = build(spec), padded(documents())
    emd = decoder(encoder, times=1)
    nn.init.zeros_(emd.place.weight)
    torch.testing.assert_close(
        states(emd.decode(encoder, token, layout), layout), states(encoder(token, layout), layout), **CLOSE
    )
    emd = decoder(encoder, times=2)
    nn.init.zeros_(emd.place.weight)
    assert not torch.allclose(emd.decode(encoder, token, layout), encoder(token, layout), atol=1e-2)
    assert not layout.scratch


def test_the_decoder_keeps_packed_documents_apart():
    encoder = relative(position("disentangled", span=12, buckets=6))
    emd = decoder(encoder)
    docs = documents()
    pad, pack = padded(docs), packed(docs, [[0, 1], [2]], 16)
    x, y = (states(emd.decode(encoder, *batch), batch[1]) for batch in (pad, pack))
    torch.testing.assert_close(x, y, **CLOSE)
