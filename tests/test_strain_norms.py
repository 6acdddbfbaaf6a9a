"""ScaleNorm, SLAB and its folding, rational activations: the formulas, and each claim, which fails without the piece."""

import numpy as np
import pytest
import torch
from toy import DIM, both, corrupted, encoder_spec, example, language, states, wake

from bertsmith import kernels, tap
from bertsmith.act import act, curves
from bertsmith.ffn import ffn
from bertsmith.layout import Layout
from bertsmith.learner import build as build_learner
from bertsmith.linear import load_tensors, tensors
from bertsmith.norm import norm
from bertsmith.residual import residual
from bertsmith.resize import resize
from bertsmith.spec import Spec

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 against float64, or the same sums in another order
LAYER, SLAB = norm("layer"), norm("slab")


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layout(rows=2, width=6):
    return Layout.padded(torch.ones(rows, width))


# ---- ScaleNorm


def test_scale_norm_is_its_formula():
    one, x = norm("scale").build(DIM), draws(2, 6, DIM)
    assert one.weight.item() == pytest.approx(DIM**0.5) and sum(p.numel() for p in one.parameters()) == 1
    wake(one)
    n = x.double().numpy()
    want = one.weight.item() * n / np.linalg.norm(n, axis=-1, keepdims=True)
    np.testing.assert_allclose(one(x, layout()).detach(), want, **CLOSE)
    zero = torch.zeros(1, 1, DIM, requires_grad=True)
    one(zero, layout(1, 1)).sum().backward()
    assert zero.grad.isfinite().all()


def test_scale_norm_puts_every_token_on_one_sphere():
    """Nguyen & Salazar: all outputs have length g, whatever is learned. A learned layer norm's differ by far more than 1 %."""

    def holds(kind):
        one = wake(norm(kind).build(DIM), seed=4)
        length = one(draws(4, 50, DIM, seed=1) * 7, layout(4, 50)).norm(dim=-1)
        return ((length.max() - length.min()) / length.mean()).item() < 1e-4

    assert holds("scale") and not holds("layer") and not holds("rms")


def test_scale_norm_keeps_its_start_in_a_run():
    spec = encoder_spec("norm", "scale")
    learner = build_learner(spec, [], example("objective", "masked_lm"), 0)
    assert learner.encoder.norm.weight.item() == pytest.approx(DIM**0.5)


# ---- SLAB


def test_slab_in_training_is_its_formula_and_padding_does_not_count():
    one, x = wake(norm("slab", until=0.5, momentum=0.25).build(DIM)).train(), draws(2, 6, DIM)
    one.step(0.2)
    keep = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    n, real = x.double().numpy(), keep.numpy() > 0
    w = {k: v.detach().double().numpy() for k, v in one.named_parameters()}
    mean, var = n[real].mean(0), n[real].var(0)
    batch = (n - mean) / np.sqrt(var + 1e-5) * w["weight"] + w["bias"] + w["eta"] * n
    layer = (n - n.mean(-1, keepdims=True)) / np.sqrt(n.var(-1, keepdims=True) + 1e-5) * w["layer_weight"] + w[
        "layer_bias"
    ]
    got = one(x, Layout.padded(keep))
    np.testing.assert_allclose(got.detach()[real], (0.6 * layer + 0.4 * batch)[real], **CLOSE)
    np.testing.assert_allclose(one.mean, 0.25 * mean, **CLOSE)
    np.testing.assert_allclose(one.var, 0.75 + 0.25 * var, **CLOSE)
    twin = wake(norm("slab", until=0.5, momentum=0.25).build(DIM)).train()
    twin.step(0.2)
    other = twin(torch.where(keep[..., None] > 0, x, 100.0), Layout.padded(keep))
    assert torch.equal(other[keep > 0], got[keep > 0]) and torch.equal(twin.mean, one.mean)


def test_slab_fades_once():
    one = norm("slab", until=0.8).build(DIM)
    seen = []
    for progress in (0.0, 0.2, 0.4, 0.8, 0.9, 1.0, 0.0, 0.5):
        one.step(progress)
        seen.append(round(one.fade.item(), 5))
    assert seen == [1, 0.75, 0.5, 0, 0, 0, 0, 0], "a later stage does not bring the layer norm back"
    with pytest.raises(ValueError, match=r"share of the stage in \(0, 1\], not 0"):
        norm("slab", until=0.0).build(DIM)


def test_slab_ends_without_statistics_of_its_own():
    """What makes it free in inference: in the end it is affine, y(a) + y(b) = y(a + b) + y(0). A layer norm is not."""

    def holds(kind, progress=1.0):
        one, place = wake(norm(kind).build(DIM)).train(), layout()
        for i in range(5):
            one(draws(2, 6, DIM, seed=i), place)
        if isinstance(one, tap.Stepped):
            one.step(progress)
        one.eval()
        a, b = draws(2, 6, DIM, seed=7), draws(2, 6, DIM, seed=8)
        return torch.allclose(one(a, place) + one(b, place), one(a + b, place) + one(0 * a, place), atol=1e-4)

    assert holds("slab") and not holds("slab", 0.2) and not holds("layer")


OBJECTIVE = example("objective", "masked_lm")


def make(spec):
    return build_learner(spec, [], OBJECTIVE, 0)


def trained(spec, steps=30):
    """A learner of the toy language at the end of a stage, and its first and last losses."""
    learner, losses = make(spec).train(), []
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    for i in range(steps):
        for module in learner.modules():
            if isinstance(module, tap.Stepped):
                module.step(i / steps)
        with kernels.seeded(0, i):
            loss = learner.objective(learner.encoder, corrupted(learner.objective, language(16, i), i))["loss"]
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    for module in learner.modules():
        if isinstance(module, tap.Stepped):
            module.step(1.0)
    return learner.eval(), losses


def folded(spec, learner):
    smaller, held = resize("fold_norm").build()(spec, {k: v.detach() for k, v in tensors(learner).items()}, make)
    model = make(smaller).eval()
    load_tensors(model, held)
    return smaller, model


def slabs(block_kind="sequential", how="pre", feed=None):
    spec = encoder_spec().replace("blocks.*", Spec.from_dict(
        {"kind": f"block/{block_kind}", "mixer": {"kind": "mixer/attention", "bias": False},
         "ffn": (feed or ffn("glu", hidden=24)).to_dict(), "residual": {"kind": f"residual/{how}", "norm": SLAB.to_dict()}}
    ))  # fmt: skip
    return spec.replace("embedding.norm", SLAB).replace("norm", SLAB)


def test_slab_learns_and_folds_to_the_same_outputs_without_a_norm():
    """The paper's claim: after training, the batch norms cost nothing. 6 norms with statistics before, none after."""
    spec = slabs()
    learner, losses = trained(spec)
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    smaller, model = folded(spec, learner)
    for batch in both():
        want, got = (states(m.encoder(*batch), batch[1]) for m in (learner, model))
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)  # two layers, sums in another order
    kinds = [type(m).__name__ for m in model.encoder.modules() if isinstance(m, norm.base)]
    assert sorted(kinds) == ["Affine"] * 2 + ["NoNorm"] * 4
    assert smaller.get("blocks.0.mixer.bias") and smaller.get("blocks.0.ffn.bias")
    assert Spec.from_dict(smaller.to_dict()) == smaller


@pytest.mark.parametrize("block_kind,how", [("parallel", "pre"), ("sequential", "post"), ("sequential", "layerscale")])
def test_folding_elsewhere(block_kind, how):
    spec = slabs(block_kind, how, ffn("mlp", hidden=24))
    learner, _ = trained(spec, 5)
    smaller, model = folded(spec, learner)
    batch = both()[0]
    want, got = (states(m.encoder(*batch), batch[1]) for m in (learner, model))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    assert smaller.get("blocks.0.residual.norm").kind == ("affine" if how == "post" else "none")


def test_folding_through_a_wrapped_residual_and_two_norms():
    inner = residual("sandwich", norm=SLAB, out_norm=SLAB)
    spec = slabs().replace("blocks.*.residual", residual("stochastic_depth", inner=inner, rate=0.2))
    learner, _ = trained(spec, 5)
    smaller, model = folded(spec, learner)
    batch = both()[0]
    want, got = (states(m.encoder(*batch), batch[1]) for m in (learner, model))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    one = smaller.get("blocks.0.residual.inner")
    assert (one.args["norm"].kind, one.args["out_norm"].kind) == ("none", "affine")


def test_folding_refuses_what_is_no_affine_map():
    def refuse(spec, learner, match):
        held = {k: v.detach() for k, v in tensors(learner).items()}
        with pytest.raises(ValueError, match=match):
            resize("fold_norm").build()(spec, held, make)

    spec = slabs()
    refuse(spec, make(spec), "still normalises each token: train until its fade has ended")
    plain = encoder_spec().replace("blocks.*.residual", residual("pre", norm=LAYER))
    refuse(plain, make(plain), "no norm of this encoder can be folded; norm/slab can")
    shared = slabs().replace("share", ["layers.*"])
    refuse(shared, make(shared), "that shares nothing")
    blind = slabs(feed=ffn("smoe_dropout", expert=ffn("mlp", hidden=8)))
    refuse(blind, trained(blind, 1)[0], "layers.0.ffn does not say which of its layers read its input")


# ---- rational activations


def test_a_rational_is_its_formula_and_starts_near_gelu():
    one = act("rational").build()
    x = torch.linspace(-6, 6, 2001)
    apart = (one(x) - torch.nn.functional.gelu(x)).abs().max().item()
    assert apart < 0.0032
    wake(one)
    a, b, n = one.a.detach().double().numpy(), one.b.detach().double().numpy(), x.double().numpy()
    want = sum(a[j] * n**j for j in range(6)) / (1 + np.abs(sum(b[k] * n ** (k + 1) for k in range(4))))
    np.testing.assert_allclose(one(x).detach(), want, rtol=1e-4, atol=1e-4)


def test_a_rational_becomes_what_the_data_want():
    """RAFT's claim: the shape itself is learned. Ten coefficients come within 0.001 (mean square) of tanh; GELU does not."""

    def holds(kind):
        one, x = act(kind).build(), torch.linspace(-3, 3, 200)
        parameters = list(one.parameters())
        optimiser = torch.optim.Adam(parameters, 2e-2) if parameters else None
        for _ in range(400):
            loss = (one(x) - x.tanh()).square().mean()
            if optimiser is not None:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return loss.item() < 0.001

    assert holds("rational") and not holds("gelu")


def test_each_layer_learns_a_curve_of_its_own_which_can_be_written_out():
    spec = encoder_spec("act", "rational")
    learner, _ = trained(spec, 10)
    found = curves(learner.encoder, -3, 3, 7)
    assert list(found) == ["layers.0.ffn.act", "layers.1.ffn.act"]
    first, second = found.values()
    assert [round(x, 6) for x, _ in first] == [-3, -2, -1, 0, 1, 2, 3] and first != second
    one = learner.encoder.layers[0].ffn.act
    assert [y for _, y in first] == pytest.approx(one(torch.linspace(-3, 3, 7)).tolist())
    (start,) = {tuple(act("rational").build().a.tolist())}
    assert tuple(make(spec).encoder.layers[0].ffn.act.a.tolist()) == start, "the init leaves the fit alone"
    assert act("relu").build().curve(-1, 1, 3) == [(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0)]
