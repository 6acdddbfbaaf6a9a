"""ALiBi, low-precision norms, clipped softmax, gates, the sphere of nGPT: the papers' formulas, and what they claim.

Every property is a function that holds for the piece and does not for the plain one.
"""

import numpy as np
import pytest
import torch
from golden.make import tokenizer
from toy import DIM, HEADS, VOCAB, corrupted, documents, encoder_spec, language, padded, states, wake

import bertsmith
from bertsmith import kernels, native
from bertsmith.core import core
from bertsmith.embedding import embedding
from bertsmith.engine import Engine
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.linear import Linear
from bertsmith.masking import masking
from bertsmith.mixer import mixer
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.objective import objective
from bertsmith.pool import pool
from bertsmith.position import position
from bertsmith.residual import residual

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32 against float64
WIDE = DIM // HEADS


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layout(rows=2, width=6):
    return Layout.padded(torch.ones(rows, width))


def equal(got, want):
    np.testing.assert_allclose(got.detach().numpy(), want, **CLOSE)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unit(x, axis=-1):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def numbers(module):
    """Name -> parameter, float64."""
    return {n: p.detach().numpy().astype(np.float64) for n, p in module.named_parameters()}


def split(x_BTD):
    return x_BTD.reshape(*x_BTD.shape[:2], HEADS, WIDE).swapaxes(1, 2)


def merged(y_BNTH):
    return y_BNTH.swapaxes(1, 2).reshape(y_BNTH.shape[0], y_BNTH.shape[2], -1)


# ---- ALiBi


@pytest.mark.parametrize("many", [8, 12])
def test_alibi_is_its_formula_with_the_published_slopes(many):
    """8 heads: 1/2, 1/4, ... 1/256. 12 heads: these, then every second one of 16 heads'."""
    slope = [2.0**-n for n in range(1, 9)] + [2.0**-x for x in (0.5, 1.5, 2.5, 3.5)][: many - 8]
    place = np.arange(6)
    want = -np.array(slope)[:, None, None] * np.abs(place[:, None] - place)
    at = layout()
    got = position("alibi").build(DIM, many, 4).score(None, None, at, at, None)
    equal(got, np.broadcast_to(want, (2, many, 6, 6)))


def shifted(kind, by):
    """States of a document that begins at place `by`."""
    torch.manual_seed(0)
    method = position(kind, **({"length": 200} if kind == "learned" else {}))
    at = "embedding.position" if kind == "learned" else "blocks.*.mixer.position"
    model = wake(encoder_spec().replace("embedding.position", position("none")).replace(at, method).build().eval())
    token, _ = padded(documents((12,)))
    return model(token, Layout.of(torch.ones_like(token), torch.arange(12)[None] + by))


def test_with_alibi_only_distances_count_so_that_no_place_is_too_far():
    holds = lambda kind: torch.allclose(shifted(kind, 0), shifted(kind, 150), atol=1e-5)  # noqa: E731
    assert holds("alibi") and not holds("learned")
    assert not torch.allclose(shifted("alibi", 0), shifted("none", 0), atol=1e-2)


def test_what_is_nearer_counts_more_on_both_sides(monkeypatch):
    def holds():
        at = layout(1, 9)
        middle = position("alibi").build(DIM, HEADS, WIDE).score(None, None, at, at, None)[0, :, 4]
        return bool((middle[:, 1:5] > middle[:, :4]).all() and (middle[:, 4:-1] > middle[:, 5:]).all())

    assert holds()
    method = type(position("alibi").build(DIM, HEADS, WIDE))
    slope = torch.tensor([0.5, 0.25])[:, None, None]
    monkeypatch.setattr(method, "_make", lambda self, distance: -slope * distance[:, None])  # the causal form
    assert not holds()


# ---- low-precision norm


def test_low_precision_norm_is_the_norm_on_16_bits():
    piece, x = wake(norm("low_precision", eps=1e-5).build(DIM)), draws(2, 6, DIM)
    p, n = numbers(piece), x.numpy().astype(np.float64)
    want = (n - n.mean(-1, keepdims=True)) / np.sqrt(n.var(-1, keepdims=True) + 1e-5) * p["weight"] + p["bias"]
    equal(piece(x, layout()), want)
    with torch.autocast("cpu", torch.bfloat16):
        low = piece(x, layout())
    # bfloat16 has 8 bits; x, w, b and y are rounded
    np.testing.assert_allclose(low.float().detach().numpy(), want, atol=4 * 2**-8 * np.abs(want).max())

    def holds(kind):
        with torch.autocast("cpu", torch.bfloat16):
            y = norm(kind).build(DIM)(x, layout())
        return y.dtype == torch.bfloat16 and y.nbytes == x.nbytes // 2

    assert holds("low_precision") and not holds("layer")


# ---- clipped softmax and gates


def test_clipped_softmax_is_its_formula():
    q, k, v = (draws(2, HEADS, 6, WIDE, seed=i) for i in range(3))
    piece = core("clipped_softmax", gamma=-0.2, zeta=1.1).build(HEADS, WIDE, 0.0)
    p = softmax(2.0 * q.numpy().astype(np.float64) @ k.numpy().swapaxes(-1, -2))
    clipped = np.clip(1.3 * p - 0.2, 0, 1)
    assert (clipped == 0).any() and (clipped == 1).any()
    equal(piece(q, k, v, None, 2.0, layout()), clipped @ v.numpy())
    none = core("clipped_softmax", gamma=0.0).build(HEADS, WIDE, 0.0)
    plain = core("softmax").build(HEADS, WIDE, 0.0)
    keep = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.3
    keep |= torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(none(q, k, v, keep, 0.5, layout()), plain(q, k, v, keep, 0.5, layout()), **CLOSE)
    with pytest.raises(ValueError, match="gamma <= 0 and zeta >= 1, not 0.1 and 1.0"):
        core("clipped_softmax", gamma=0.1).build(HEADS, WIDE, 0.0)


def test_with_clipped_softmax_a_head_can_do_nothing_with_scores_of_ordinary_size():
    """64 tokens, scores within +-0.5: no weight is above 0.025, so that all are exactly 0."""
    v = torch.ones(1, HEADS, 64, WIDE)
    q, k = torch.rand(1, HEADS, 64, WIDE) / WIDE, torch.rand(1, HEADS, 64, WIDE) / 2
    holds = lambda kind: not core(kind).build(HEADS, WIDE, 0.0)(q, k, v, None, 1.0, layout(1, 64)).any()  # noqa: E731
    assert holds("clipped_softmax") and not holds("softmax")


def test_gated_attention_is_its_formula():
    piece, x = wake(mixer("gated_attention").build(DIM, HEADS)), draws(2, 6, DIM)
    p, n = numbers(piece), x.numpy().astype(np.float64)
    q, k, v = (split(n @ p[f"{w}.weight"].T + p[f"{w}.bias"]) for w in "qkv")
    y_BNTH = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(WIDE)) @ v
    # the gate of head n reads the n-th part of the layer's input
    gate = (n.reshape(2, 6, HEADS, WIDE) * p["gate.weight"]).sum(-1) + p["gate.bias"]
    y_BNTH = y_BNTH / (1 + np.exp(-gate.swapaxes(1, 2)[..., None]))
    equal(piece(x, layout()), merged(y_BNTH) @ p["out.weight"].T + p["out.bias"])


def test_a_gate_starts_as_open_as_it_is_told():
    spec = encoder_spec().replace("blocks.*.mixer", mixer("gated_attention", start=0.25))
    gate = build_learner(spec, [], objective("masked_lm", masking=masking("bert")), 0).encoder.layers[0].mixer.gate
    torch.testing.assert_close(gate.bias.sigmoid(), torch.full((HEADS,), 0.25))


def test_a_closed_gate_silences_a_head_which_no_attention_weights_can():
    def holds(kind):
        piece, x = mixer(kind).build(DIM, HEADS).eval(), draws(2, 6, DIM)
        with torch.no_grad():
            for name, p in piece.named_parameters():  # v gives ones; all else that steers the heads is pushed far off
                if name.endswith("bias"):
                    p.fill_({"v.bias": 1.0, "out.bias": 0.0}.get(name, -30.0))
            piece.v.weight.zero_()
            piece.out.weight.copy_(torch.eye(DIM))
        return float(piece(x, layout()).detach().abs().max()) < 1e-6

    assert holds("gated_attention") and not holds("attention")


# ---- nGPT


def test_ngpt_attention_is_its_formula():
    piece, x = wake(mixer("ngpt").build(DIM, HEADS)), draws(2, 6, DIM)
    p, n = numbers(piece), x.numpy().astype(np.float64)
    s = (p["s"] * np.sqrt(DIM)).reshape(HEADS, 1, WIDE)
    q, k, v = (split(n @ unit(p[f"{w}.weight"]).T) for w in "qkv")
    p_BNTS = softmax(np.sqrt(WIDE) * (s * unit(q)) @ (s * unit(k)).swapaxes(-1, -2))
    equal(piece(x, layout()), merged(p_BNTS @ v) @ unit(p["out.weight"], 0).T)


def test_ngpt_gated_unit_is_its_formula():
    piece, x = wake(ffn("ngpt", hidden=24).build(DIM)), draws(2, 6, DIM)
    p, n = numbers(piece), x.numpy().astype(np.float64)
    u, v = p["s_up"] * (n @ unit(p["up.weight"]).T), p["s_gate"] * np.sqrt(DIM) * (n @ unit(p["gate.weight"]).T)
    equal(piece(x, layout()), (u * silu(v)) @ unit(p["down.weight"], 0).T)


def test_ngpt_step_is_its_formula_and_starts_at_what_it_is_told():
    piece, x = residual("ngpt", start=0.3).build(DIM, 0, 2), draws(2, 6, DIM)
    n = unit(x.numpy().astype(np.float64))
    for a in (0.3 * np.ones(DIM), None):
        if a is None:
            a = np.abs(numbers(wake(piece))["step_size"] * 0.3 * np.sqrt(DIM))
        want = unit(n + a * (unit(np.sin(n)) - n))
        equal(piece(x, torch.sin, layout()), want)


def test_ngpt_head_is_its_formula():
    encoder = wake(encoder_spec().build())
    top, x = wake(heads("ngpt").build(encoder, 0)), draws(2, 6, DIM)
    p = numbers(top)
    want = p["scale"] * np.sqrt(DIM) * (x.numpy() @ unit(p["table.weight"]).T)
    equal(top(x, layout()), want)
    narrow = encoder_spec().replace("embedding.width", 8).build()
    for kind in ("ngpt", "lm_linear"):
        with pytest.raises(ValueError, match="a table of width 8"):
            heads(kind).build(narrow, 0)


def sphere(**other):
    """A toy nGPT, with other pieces in some places."""
    pieces = {"mixer": mixer("ngpt"), "ffn": ffn("ngpt", hidden=24), "residual": residual("ngpt")} | other
    tokens = embedding("tokens", vocab=VOCAB, position=position("none"), norm=norm("unit"))
    spec = encoder_spec().replace("embedding", tokens).replace("norm", norm("none"))
    for name, piece in pieces.items():
        spec = spec.replace(f"blocks.*.{name}", piece)
    return spec


def trained(spec, steps=6):
    """A learner of masked LM after some steps, and its losses."""
    task = objective("masked_lm", masking=masking("bert", rate=0.4), head=heads("ngpt"))
    learner = build_learner(spec, [], task, seed=0)
    optimiser, losses = torch.optim.AdamW(learner.parameters(), lr=3e-2), []
    for step in range(steps):
        with kernels.seeded(0, step):
            loss = learner.objective(learner.encoder, corrupted(learner.objective, language(16, step), step))["loss"]
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return learner, losses


def test_states_of_ngpt_stay_on_the_sphere():
    def holds(spec):
        encoder = trained(spec)[0].encoder.eval()
        token, at = padded(documents())
        return all(
            torch.allclose(states(x, at).norm(dim=-1), torch.ones(()), atol=1e-5) for x in encoder.states(token, at)
        )

    assert holds(sphere()) and not holds(sphere(residual=residual("pre", norm=norm("layer"))))


def test_weights_of_ngpt_stay_on_the_sphere_as_they_are_read():
    def holds(spec):
        encoder, far = trained(spec)[0].encoder, 0.0
        for path, m in encoder.named_modules():
            if isinstance(m, Linear) and path:
                weight = m.edited()[0]
                length = weight.norm(dim=0 if path.endswith(("out", "down")) else 1)
                far = max(far, float((length - 1).detach().abs().max()))
        return far < 1e-5

    assert holds(sphere())
    assert not holds(sphere(mixer=mixer("attention"))) and not holds(sphere(ffn=ffn("glu", hidden=24)))


def test_scores_of_ngpt_are_bounded_whatever_the_input():
    """|sqrt(H) q k'| <= sqrt(H) max s^2, where scores of plain attention grow with the square of the weights."""

    def holds(kind):
        seen = []
        piece = mixer(kind).build(DIM, HEADS)
        with torch.no_grad():
            for w in (piece.q, piece.k):
                w.weight.mul_(1e4)
        piece.core.register_forward_hook(lambda m, a, y: seen.append(a[4] * a[0] @ a[1].transpose(-1, -2)))
        piece(draws(2, 6, DIM), layout())
        return float(seen[0].detach().abs().max()) <= WIDE**0.5 + 1e-5

    assert holds("ngpt") and not holds("attention")


def test_ngpt_learns_the_toy_language():
    losses = trained(sphere(), steps=60)[1]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


# ---- what else stands here


def test_the_first_mixer_of_modernbert_reads_the_embedding_as_it_is():
    at, x = layout(), 5 + draws(2, 6, DIM)
    read = lambda kind, layer: residual(kind, norm=norm("layer")).build(DIM, layer, 2).view(x, at)  # noqa: E731
    holds = lambda kind: bool(torch.equal(read(kind, 0), x) and not torch.allclose(read(kind, 1), x))  # noqa: E731
    assert holds("pre_after_first") and not holds("pre")
    torch.testing.assert_close(read("pre_after_first", 1), read("pre", 1))


def test_scaled_waves_are_the_waves_times_a_learned_number():
    at, x = layout(), draws(2, 6, DIM)
    piece = position("scaled_sinusoidal").build(DIM, HEADS, WIDE)
    wave = position("sinusoidal").build(DIM, HEADS, WIDE).add(torch.zeros_like(x), at)
    assert piece.scale.item() == pytest.approx(DIM**-0.5)
    torch.testing.assert_close(piece.add(x, at), x + wave * DIM**-0.5)


def test_a_norm_inside_a_gated_unit_makes_it_blind_to_the_size_of_its_hidden_numbers():
    def holds(kind):
        piece, x = wake(ffn(kind, hidden=24, act="relu").build(DIM)), draws(2, 6, DIM)
        y = piece(x, layout())
        with torch.no_grad():
            piece.up.weight.mul_(100)
        return torch.allclose(piece(x, layout()), y, rtol=1e-3, atol=1e-3)

    assert holds("normed_glu") and not holds("glu")
    piece, x = wake(ffn("normed_glu", hidden=24, act="relu").build(DIM)), draws(2, 6, DIM)
    p, n = numbers(piece), x.numpy().astype(np.float64)
    h = np.maximum(n @ p["gate.weight"].T, 0) * (n @ p["up.weight"].T)
    h = (h - h.mean(-1, keepdims=True)) / h.std(-1, keepdims=True)
    equal(piece(x, layout()), h @ p["down.weight"].T)


def test_a_pool_before_a_layer_and_after_it():
    at = Layout.padded(torch.tensor([[1, 1, 1], [1, 1, 0]]))
    x, between = draws(2, 3, DIM), ffn("dense", act="relu")
    after, before = (wake(pool(k, transform=between, pool=pool("mean")).build(DIM)) for k in ("transformed", "late"))
    p = numbers(after)
    layer = lambda v: np.maximum(v @ p["transform.dense.weight"].T + p["transform.dense.bias"], 0)  # noqa: E731
    rows = [x[0].numpy().astype(np.float64), x[1, :2].numpy().astype(np.float64)]
    before.load_state_dict(after.state_dict())
    equal(after(x, at), np.stack([layer(r.mean(0)) for r in rows]))
    equal(before(x, at), np.stack([layer(r).mean(0) for r in rows]))


@pytest.mark.parametrize(
    "said", [heads("lm_linear"), heads("lm_linear", tied=False, bias=True), heads("ngpt")], ids=["tied", "own", "ngpt"]
)
def test_a_model_with_another_head_fills_and_is_saved(said, tmp_path):
    spec = encoder_spec()
    encoder = spec.build()
    model = Model(spec, wake(Bundle(encoder, said.build(encoder, 0))), tokenizer(VOCAB), said)
    want = model.fill("w3 [MASK] w5")
    model.save(tmp_path)
    assert bertsmith.load(tmp_path).fill("w3 [MASK] w5") == want
    token, at = padded(documents())
    logits = model.head(encoder(token, at), at)
    assert logits.shape == (*token.shape, VOCAB)
    table = model.head.table is encoder.embedding.table
    assert table is (said.args.get("tied", True))


def test_texts_to_measure_with_are_no_longer_than_the_table_of_places():
    """A model made by hand says nothing of its 64 places; one of the texts in the box is of hundreds of tokens."""
    spec, said = encoder_spec(), heads("lm_linear")
    encoder = spec.build()
    model = Model(spec, wake(Bundle(encoder, said.build(encoder, 0))), tokenizer(VOCAB), said)
    assert model.max_length == 64
    read = Engine(model.encoder, 512, lambda: [[3] * 477] * 30, lambda: [])
    engines = [model.engine, read] if native.sets() else [model.engine]  # torch itself refuses places beyond the table
    for engine in engines:
        assert "nan" not in engine.about()["precision"]
    assert max(map(len, read._texts(64))) == 64
