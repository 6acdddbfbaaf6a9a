"""Residuals, starts and blocks: the formulas, and each claim with a number, which fails without the piece."""

import numpy as np
import pytest
import torch
from toy import DIM, both, build, documents, encoder_spec, example, packed, padded, states, wake

from bertsmith import kernels, tap
from bertsmith.block import block
from bertsmith.init import init as inits
from bertsmith.init import initialise
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.norm import norm
from bertsmith.residual import residual
from bertsmith.spec import Spec

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 against float64
LAYER = norm("layer")
XAVIER = inits("deepnorm", unscaled=["**"])  # gain 1 everywhere, at any depth: what these starts are measured against


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layout(rows=2, width=6):
    return Layout.padded(torch.ones(rows, width))


def layer_norm(x, piece, eps=1e-12):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * piece.weight.detach().numpy() + piece.bias.detach().numpy()


def deep(depth, how, start, normed=LAYER, seed=0):
    """A toy encoder of ReLU layers with a start of its own, and two documents."""
    spec = encoder_spec().replace("depth", depth).replace("blocks.*.ffn.act", "relu")
    spec = spec.replace("blocks.*.residual", how).replace("init", start)
    encoder = spec.replace("norm", normed).replace("embedding.norm", normed).build().eval()
    initialise(encoder, encoder.init, seed)
    return encoder, *padded(documents((8, 8), seed=seed))


# ---- residuals: the formulas


def test_sandwich_deepnorm_and_layerscale_are_their_formulas():
    x, f = draws(2, 6, DIM), torch.sin
    n = x.double().numpy()
    one = wake(residual("sandwich", norm=LAYER).build(DIM, 3, 12))
    want = n + layer_norm(np.sin(layer_norm(n, one.norm)), one.out_norm)
    np.testing.assert_allclose(one(x, f, layout()).detach(), want, **CLOSE)
    one = wake(residual("deepnorm", norm=LAYER).build(DIM, 3, 12))
    np.testing.assert_allclose(one(x, f, layout()).detach(), layer_norm(24**0.25 * n + np.sin(n), one.norm), **CLOSE)
    one = wake(residual("layerscale", norm=LAYER).build(DIM, 3, 12))
    want = n + one.scale.detach().numpy() * np.sin(layer_norm(n, one.norm))
    np.testing.assert_allclose(one(x, f, layout()).detach(), want, **CLOSE)


def test_settings_of_residuals():
    assert residual("deepnorm", norm=LAYER, alpha=1.5).build(DIM, 0, 12).alpha == 1.5
    two = residual("sandwich", norm=LAYER, out_norm=norm("rms")).build(DIM, 0, 12)
    assert type(two.out_norm).__name__ == "RMS" and two.shows == "norm"
    starts = [residual("layerscale", norm=LAYER).build(DIM, 0, n).scale[0].item() for n in (18, 24, 36)]
    assert starts == pytest.approx([0.1, 1e-5, 1e-6])
    assert residual("layerscale", norm=LAYER, start=0.3).build(DIM, 0, 36).scale[0].item() == pytest.approx(0.3)
    assert residual("peri", norm=LAYER) == residual("sandwich", norm=LAYER)
    with pytest.raises(ValueError, match=r"rate lies in \[0, 1\), not 1.0"):
        residual("stochastic_depth", inner=residual("pre", norm=LAYER), rate=1.0).build(DIM, 0, 1)


def test_a_start_of_its_own_is_not_filled_by_the_init():
    spec = encoder_spec().replace("blocks.*.residual", residual("layerscale", norm=LAYER))
    learner = build_learner(spec, [], example("objective", "masked_lm"), 0)
    scales = [p for n, p in learner.named_parameters() if n.endswith("residual.scale")]
    assert len(scales) == 4 and all((p == 0.1).all() for p in scales)


# ---- residuals: the claims


def test_a_sandwich_adds_no_more_than_its_norm_gives():
    """CogView's and Peri-LN's claim: however large a layer's output, what joins the stream stays of size 1."""

    def holds(kind):
        one, x = residual(kind, norm=LAYER).build(DIM, 0, 1), draws(2, 6, DIM)
        added = one(x, lambda v: 1e3 * v, layout()) - x
        return added.square().mean().sqrt().item() < 1.01

    assert holds("sandwich") and not holds("pre")


def test_layerscale_starts_as_the_identity_however_deep():
    """CaiT's claim: 64 layers hardly change the stream at the start; pre-norm's is then 100 times as long."""

    def holds(kind):
        encoder, *batch = deep(64, residual(kind, norm=LAYER), inits("normal", std=1.0))
        first, *_, last, _ = encoder.states(*batch)
        return ((last - first).norm() / first.norm()).item() < 0.01

    assert holds("layerscale") and not holds("pre")


def moved(depth, how, start, normed=LAYER, lr=1e-3):
    """How far one step of gradient descent on the layers' matrices moves the outputs, per learning rate."""
    encoder, *batch = deep(depth, how, start, normed)
    x = encoder(*batch)
    (x * draws(*x.shape, seed=3)).mean().backward()
    with torch.no_grad():
        for p in encoder.layers.parameters():
            if p.dim() > 1:
                p.sub_(lr * p.grad)
    return ((encoder(*batch) - x).norm() / lr).item()


def test_the_first_update_under_deepnorm_does_not_grow_with_depth():
    """DeepNet, theorem 4.2. From 4 to 64 layers: 0.9 times as large; without its residual 3.7, without its start 19 times."""

    def holds(kind, start):
        small, large = (moved(n, residual(kind, norm=LAYER), start) for n in (4, 64))
        return large < 1.5 * small

    assert holds("deepnorm", inits("deepnorm"))
    assert not holds("post", inits("deepnorm"))
    assert not holds("deepnorm", XAVIER)
    assert not holds("post", inits("normal"))


def test_the_first_update_under_t_fixup_needs_no_norm_at_any_depth():
    """Huang et al., section 3. Without any norm: 1.2 times as large at 64 layers as at 4; from Xavier's start it overflows."""

    def holds(start):
        nothing = norm("none")
        small, large = (moved(n, residual("pre", norm=nothing), start, nothing) for n in (4, 64))
        return large < 1.5 * small

    assert holds(inits("t_fixup")) and not holds(XAVIER)


# ---- stochastic depth


def skipping(rate=0.5, layer=0, depth=1, kind="pre"):
    return residual("stochastic_depth", inner=residual(kind, norm=LAYER), rate=rate).build(DIM, layer, depth).train()


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_a_document_is_left_out_whole_or_weighed(kind):
    one, x = skipping(0.5, kind=kind), draws(3, 16, DIM)
    (_, pad), (_, pack) = both()
    inner = one.inner(x[:2], torch.sin, pack) - x[:2]
    with kernels.seeded(4):
        y = one(x[:2], torch.sin, pack) - x[:2]
    seen = set()
    for row, segment in ((0, 1), (0, 2), (1, 1)):
        here = pack.segment_BT[row] == segment
        gain = 0.0 if (y[row, here] == 0).all() else 2.0
        torch.testing.assert_close(y[row, here], gain * inner[row, here], **CLOSE)
        seen.add(gain)
    assert seen == {0.0, 2.0}, "choose a seed that leaves out some documents and not others"
    one.eval()
    torch.testing.assert_close(one(x[:2], torch.sin, pack) - x[:2], inner)
    whole = skipping(0.0, kind=kind)
    assert torch.equal(whole(x[:2], torch.sin, pack), whole.inner(x[:2], torch.sin, pack))


def test_a_packed_document_is_left_out_where_the_padded_one_is():
    model = encoder_spec().replace("blocks.*.residual", Spec.from_dict(
        {"kind": "residual/stochastic_depth", "rate": 0.5, "inner": {"kind": "residual/pre", "norm": {"kind": "norm/layer"}}}
    ))  # fmt: skip
    model, got = build(model).train(), []
    for batch in both():
        with kernels.seeded(5):
            got.append(states(model(*batch), batch[1]))
    torch.testing.assert_close(*got, **CLOSE)
    assert not torch.allclose(got[0], states(model.eval()(*both()[0]), both()[0][1]), atol=1e-2)


def test_the_expectation_is_what_evaluation_computes():
    """Eq. 5 the other way round. Plain leaving out, without dividing by p, is 40 % too small."""

    def holds(divided):
        one, x, place, many = skipping(0.4), draws(1, 2, DIM), layout(1, 2), 4000
        wide = x.expand(many, 2, DIM)
        with kernels.seeded(0):
            y = one(wide, torch.sin, Layout.padded(torch.ones(many, 2))) - x
        mean = y.mean(0) * (1 if divided else one.keep)
        want = (one.eval()(x, torch.sin, place) - x)[0]
        # the standard error of a Bernoulli mean, four times, relative
        return bool(((mean - want).abs() < 4 * (0.4 / 0.6 / many) ** 0.5 * want.abs() + 1e-6).all())

    assert holds(divided=True) and not holds(divided=False)


def test_the_expected_depth_is_the_papers():
    """Section 3: with p_N = 0.5 the expected depth is (3 N - 1) / 4, 8.75 of 12; one rate for all would give 6."""
    keep = [skipping(0.5, layer, 12).keep for layer in range(12)]
    assert sum(keep) == pytest.approx((3 * 12 - 1) / 4)
    one, many = skipping(0.5, 5, 12), Layout.padded(torch.ones(4000, 1))
    x = draws(1, 1, DIM).expand(4000, 1, DIM)
    with kernels.seeded(0):
        kept = (one(x, torch.sin, many) != x).any(-1).float().mean().item()
    assert kept == pytest.approx(0.75, abs=0.03)  # four standard errors


# ---- starts


def filled(start, depth=9):
    encoder = encoder_spec().replace("depth", depth).replace("init", start).build()
    initialise(encoder, encoder.init, 0)
    return dict(encoder.named_parameters())


def test_starts_are_their_formulas():
    xavier = {"q": (6 / (2 * DIM)) ** 0.5, "up": (6 / (DIM + 24)) ** 0.5}
    p = filled(inits("depth_scaled", alpha=0.8))
    for layer in (0, 8):
        for name, bound in (("mixer.q", xavier["q"]), ("ffn.up", xavier["up"])):
            limit = 0.8 * bound / (layer + 1) ** 0.5
            largest = p[f"layers.{layer}.{name}.weight"].abs().max().item()
            assert 0.95 * limit < largest <= limit
    p = filled(inits("t_fixup"))
    for name, bound in (("mixer.v", xavier["q"]), ("mixer.out", xavier["q"]), ("ffn.up", xavier["up"])):
        limit = 0.67 * 9**-0.25 * bound
        assert 0.95 * limit < p[f"layers.4.{name}.weight"].abs().max().item() <= limit
    assert 0.95 * xavier["q"] < p["layers.4.mixer.k.weight"].abs().max().item() <= xavier["q"]
    # sums over 9 layers of 256 numbers: 2 % is one standard error of a standard deviation
    pooled = lambda p, name: torch.cat([p[f"layers.{i}.{name}.weight"].flatten() for i in range(9)]).std().item()  # noqa: E731
    assert p["embedding.table.weight"].std().item() == pytest.approx(DIM**-0.5 * 81**-0.25, rel=0.1)
    p = filled(inits("deepnorm"))
    assert pooled(p, "mixer.q") == pytest.approx((2 / (2 * DIM)) ** 0.5, rel=0.06)
    assert pooled(p, "mixer.v") == pytest.approx(72**-0.25 * (2 / (2 * DIM)) ** 0.5, rel=0.06)
    assert pooled(p, "ffn.down") == pytest.approx(72**-0.25 * (2 / (DIM + 24)) ** 0.5, rel=0.06)
    p = filled(inits("residual_scaled", std=0.1))
    cut = 0.8796  # the standard deviation of a normal distribution cut at two
    assert pooled(p, "ffn.down") == pytest.approx(cut * 0.1 / 18**0.5, rel=0.06)
    assert pooled(p, "mixer.out") == pytest.approx(cut * 0.1 / 18**0.5, rel=0.06)
    assert pooled(p, "mixer.q") == pytest.approx(cut * 0.1, rel=0.06)
    p = filled(inits("small_embedding"))
    tables = [p[f"embedding.{n}.weight"] for n in ("table", "types", "position.table")]
    assert all(0.5e-4 < t.abs().max() <= 1e-4 for t in tables) and p["layers.0.mixer.q.weight"].std() > 0.01
    for start in ("depth_scaled", "t_fixup", "deepnorm", "residual_scaled", "small_embedding"):
        p = filled(inits(start))
        assert (p["layers.0.ffn.up.bias"] == 0).all() and (p["layers.0.ffn_residual.norm.weight"] == 1).all()


def test_depth_scaled_keeps_the_gradient_on_its_way_down():
    """Zhang et al., fig. 1: under post-norm the gradient reaches the first of 32 layers; from Xavier's start a tenth does."""

    def holds(start):
        return all(0.5 < reaching(start, seed) < 2 for seed in range(3))

    def reaching(start, seed):
        encoder, token, place = deep(32, residual("post", norm=LAYER), start, seed=seed)
        place = place.fresh()
        x = first = encoder.embedding(token, place).detach().requires_grad_()
        for layer in encoder.layers:
            x = layer(x, place)
        x.retain_grad()
        (x * draws(*x.shape, seed=3)).mean().backward()
        return (first.grad.norm() / x.grad.norm()).item()

    assert holds(inits("depth_scaled")) and not holds(XAVIER)


def test_residual_scaled_keeps_the_stream_as_long_at_any_depth():
    """The stream's length after 64 layers is 1.1 times that of the embedding; 5.8 times where all weights start alike."""

    def holds(kind):
        encoder, *batch = deep(64, residual("pre", norm=LAYER), inits(kind, std=0.2))
        first, *_, last, _ = encoder.states(*batch)
        return (last.norm() / first.norm()).item() < 1.5

    assert holds("residual_scaled") and not holds("normal")


def test_small_embeddings_turn_in_one_step():
    """One step of Adam at 1e-3: what the norm shows of a token turns by a right angle; from a start of 0.02 by 4 degrees."""

    def holds(kind):
        encoder, token, place = deep(2, residual("post", norm=LAYER), inits(kind))
        place, before = place.fresh(), encoder.embedding(token, place.fresh()).detach()
        optimiser = torch.optim.Adam(encoder.parameters(), 1e-3)
        x = encoder(token, place)
        (x * draws(*x.shape, seed=3)).mean().backward()
        optimiser.step()
        return torch.cosine_similarity(before, encoder.embedding(token, place), -1).mean().item() < 0.5

    assert holds("small_embedding") and not holds("normal")


# ---- blocks


def blocks(kind, how="pre"):
    return encoder_spec().replace("blocks.*", Spec.from_dict(
        {"kind": f"block/{kind}", "mixer": {"kind": "mixer/attention"}, "ffn": {"kind": "ffn/mlp", "hidden": 24},
         "residual": {"kind": f"residual/{how}", "norm": {"kind": "norm/layer"}}}
    ))  # fmt: skip


def test_a_parallel_block_is_its_formula():
    _, place = padded(documents())
    x = draws(3, 9, DIM)
    one = build(blocks("parallel")).layers[0]
    seen = one.residual.norm(x, place)
    torch.testing.assert_close(one(x, place), x + one.mixer(seen, place) + one.ffn(seen, place))
    one = build(blocks("parallel", "post")).layers[0]
    torch.testing.assert_close(one(x, place), one.residual.norm(x + one.mixer(x, place) + one.ffn(x, place), place))


def test_beside_attention_a_feed_forward_sees_its_own_token_only():
    """What makes the two independent, to be computed at once: in series the feed-forward waits for what attention read."""

    def holds(kind):
        model, seen = build(blocks(kind)), []
        token, place = padded(documents((8,)))
        other = token.clone()
        other[0, 5] = 7
        with tap.see(model, "layers.0.ffn", lambda path, inputs, y: seen.append(inputs[0][0, 2].detach())):
            model(token, place), model(other, place)
        return torch.equal(*seen)

    assert holds("parallel") and not holds("sequential")


def test_parallel_and_serial_agree_where_attention_adds_little():
    """Sonkar & Baraniuk's second assumption as a number: the two differ by less than what attention adds, in proportion."""
    x, (_, place) = draws(3, 9, DIM), padded(documents())
    one, other = (build(blocks(kind)).layers[0] for kind in ("parallel", "sequential"))
    other.mixer.load_state_dict(one.mixer.state_dict())
    other.ffn.load_state_dict(one.ffn.state_dict())
    for piece in (other.mixer_residual, other.ffn_residual):
        piece.load_state_dict(one.residual.state_dict())
    apart = []
    for scale in (1.0, 0.1, 0.01):
        with torch.no_grad():
            for block_ in (one, other):
                block_.mixer.out.weight.mul_(scale / 1.0 if not apart else 0.1)
                block_.mixer.out.bias.mul_(1.0 if not apart else 0.1)
        apart.append((one(x, place) - other(x, place)).norm().item())
    assert apart[1] < 0.2 * apart[0] and apart[2] < 0.2 * apart[1]


def test_a_single_block_is_a_mixer_on_a_residual():
    one = block("single", mixer=Spec.from_dict({"kind": "mixer/attention"}), residual=residual("pre", norm=LAYER))
    one = wake(one.build(DIM, 2, 0, 2))
    (_, place), x = packed(documents(), [[0, 1], [2]], 16), draws(2, 16, DIM)
    torch.testing.assert_close(one(x, place), x + one.mixer(one.mixer_residual.norm(x, place), place))
