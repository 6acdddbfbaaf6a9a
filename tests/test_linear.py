"""Patterns, edits, grafts, sharing, and tensors by name."""

import pytest
import torch
from torch import nn
from toy import both, build, encoder_spec, wake

from bertsmith import kernels
from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.linear import (
    Dropout,
    Edit,
    Embedding,
    Linear,
    bake,
    edit,
    fits,
    graft,
    load_tensors,
    matching,
    share,
    tensors,
    ungraft,
)


@pytest.mark.parametrize(
    "path,pattern,hit",
    [
        ("layers.0.mixer", "layers.*", False),
        ("layers.0", "layers.*", True),
        ("layers.10.mixer.q", "**.mixer.[qv]", True),
        ("layers.10.mixer.k", "**.mixer.[qv]", False),
        ("mixer.q", "**.mixer.q", False),
        ("layers.3.ffn", "layers.*.{mixer,ffn}", True),
        ("layers.3.core", "layers.*.{mixer,ffn}", False),
        ("layers.11.ffn", "layers.1[01].ffn", True),
        ("layersX0", "layers.0", False),
        ("a.b.c", "**", True),
    ],
)
def test_stars_stay_inside_one_name_and_double_stars_cross_dots(path, pattern, hit):
    assert fits(path, pattern) is hit


def test_a_pattern_that_hits_nothing_lists_what_there_is():
    with pytest.raises(ValueError, match=r"no Linear matches 'layers.\*.q'.*there are: layers.0.mixer.q"):
        matching(build(encoder_spec()), "layers.*.q", Linear)


def test_the_paths_that_were_hit_are_returned():
    model = build(encoder_spec())
    assert edit(model, "**.mixer.[qv]", edits("lora")) == [f"layers.{i}.mixer.{x}" for i in (0, 1) for x in "qv"]
    assert graft(model, "layers.1.ffn", grafts("bottleneck")) == ["layers.1.ffn"]


def test_a_name_is_taken_once_in_one_place():
    model = build(encoder_spec())
    for verb, spec, where in ((edit, edits("lora"), "layers.0.mixer.q"), (graft, grafts("bottleneck"), "layers.0.ffn")):
        verb(model, where, spec)
        with pytest.raises(ValueError, match=f"{where} has .* named '{spec.kind}' already"):
            verb(model, where, spec)
        verb(model, where, spec, "second")
    assert len(model.changes) == 4
    with pytest.raises(ValueError, match="no graft is named 'lora'; there are: bottleneck, second"):
        ungraft(model, "lora")


def test_a_refused_change_leaves_the_model_as_it_was():
    model = build(encoder_spec())
    keys = set(model.state_dict())
    for where in ("layers.*.ffn", "layers.*.{mixer.core,ffn}"):
        with pytest.raises(ValueError, match="inner product"):
            graft(model, where, grafts("prefix"))
    assert set(model.state_dict()) == keys and not model.changes


class Double(Edit):
    def forward(self, weight, bias):
        return 2 * weight, bias


class Plus(Edit):
    def forward(self, weight, bias):
        return weight + 1, bias if bias is None else bias + 1


@pytest.mark.parametrize("layer", [Linear(3, 2), Linear(3, 2, bias=False), Embedding(4, 3)])
def test_edits_apply_in_order(layer):
    layer.edits["twice"], layer.edits["plus"] = Double(layer.weight), Plus(layer.weight)
    weight, bias = layer.edited()
    assert torch.equal(weight, 2 * layer.weight + 1)
    assert (bias is None) == (layer.bias is None) and (bias is None or torch.equal(bias, layer.bias + 1))
    x = torch.tensor([[1, 0]]) if isinstance(layer, Embedding) else torch.ones(1, 3)
    want = weight[x] if isinstance(layer, Embedding) else x @ weight.T + (0 if bias is None else bias)
    torch.testing.assert_close(layer(x), want)


def test_baking_refuses_to_lose_a_bias():
    class Biased(Edit):
        def forward(self, weight, bias):
            return weight, torch.ones(len(weight))

    model = build(encoder_spec().replace("blocks.*.mixer.bias", False))
    host = model.layers[0].mixer.q
    host.edits["biased"] = Biased(host.weight)
    with pytest.raises(ValueError, match="layers.0.mixer.q has no bias, but its edits biased make one"):
        bake(model)
    assert "biased" in host.edits


def test_grafts_nest_and_the_last_is_outermost():
    model, (pad, _) = build(encoder_spec()), both()
    for name in ("one", "two"):
        graft(model, "layers.0.ffn", grafts("bottleneck"), name)
    wake(model, "grafts.")
    host = model.layers[0].ffn
    x = torch.randn(1, 4, model.dim)
    want = type(host).forward(host, x, pad[1])
    for one in host.grafts.values():
        want = want + one.up(nn.functional.gelu(one.down(want)))
    torch.testing.assert_close(host(x, pad[1]), want)
    ungraft(model, "one")
    assert list(host.grafts) == ["two"] and [c["name"] for c in model.changes] == ["two"]


def test_what_is_shared_is_one_tensor_saved_once():
    model = encoder_spec().replace("share", ["layers.*"]).build()
    assert model.layers[0] is model.layers[1]
    assert not [k for k in tensors(model) if k.startswith("layers.1.")]
    load_tensors(model, {k: torch.ones_like(v) for k, v in tensors(model).items()})
    assert model.layers[1].mixer.q.weight.eq(1).all()
    with pytest.raises(ValueError, match="nothing matches 'layer.9'"):
        share(model, "layer.9")


def test_loading_is_strict_both_ways_and_says_what_does_not_fit():
    model = nn.ModuleDict({"a": Linear(3, 2)})
    good = {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}
    load_tensors(model, good)
    assert model["a"].weight.eq(1).all()
    for bad, says in [
        ({"a.weight": torch.ones(2, 3)}, "missing \\['a.bias'\\]"),
        (good | {"b": torch.ones(1)}, "unexpected \\['b'\\]"),
        (good | {"a.bias": torch.ones(3)}, "a.bias \\[3\\] for \\[2\\]"),
    ]:
        with pytest.raises(KeyError, match=says):
            load_tensors(model, bad)


def test_dropout_is_off_in_evaluation_and_refuses_odd_rates():
    x = torch.ones(1000)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)
    with kernels.seeded(0):
        assert (Dropout(0.5)(x) == 0).float().mean() > 0.4
    with pytest.raises(ValueError, match="lies in \\[0, 1\\), not 1"):
        Dropout(1.0)
