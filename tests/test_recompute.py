"""Layers that are run again in the backward pass: the same numbers, bit for bit, of less memory."""

import gc
import weakref

import pytest
import torch
from test_compose import COMBINATIONS, assemble
from test_native import spec
from toy import both, build, encoder_spec, kinds

from bertsmith import fused, kernels, tap
from bertsmith.graft import graft as grafts
from bertsmith.linear import graft

EVERY_FOURTH = COMBINATIONS[::4]


def gradients(model, token_BT, layout, on):
    """(loss, name -> gradient) of a pass with dropout, what pieces say included."""
    model.zero_grad()
    with kernels.seeded(3), kernels.recomputing(on), tap.heard() as said:
        loss = model(token_BT, layout).float().square().mean() + sum(said.values())
        loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def check(model):
    for module in model.modules():
        if isinstance(module, tap.Stepped):
            with kernels.seeded(0):
                module.step(0.5)
    _, (token_BT, layout) = both()
    if any(vars(type(m)).get("crosses") for m in model.modules()):
        (token_BT, layout), _ = both()
    want = gradients(model.train(), token_BT, layout, on=False)
    got = gradients(model, token_BT, layout, on=True)
    assert got[0] == want[0] and got[1].keys() == want[1].keys()
    for name in want[1]:
        assert torch.equal(got[1][name], want[1][name]), name
    return got


@pytest.mark.parametrize("choice", EVERY_FOURTH, ids=[str(i) for i in range(len(EVERY_FOURTH))])
def test_any_pieces_give_the_same_gradients(choice):
    try:
        model = build(assemble(choice))
    except ValueError:
        pytest.skip("these pieces refuse each other")
    check(model)


@pytest.mark.parametrize("kind", [k for _, k in kinds("encoder")])
def test_any_encoder_gives_the_same_gradients(kind):
    check(build(encoder_spec("encoder", kind)))


def test_a_graft_that_drops_and_speaks_is_heard_once():
    model = build(spec(**{"dim": 32, "heads": 1, "depth": 3, "blocks__0__residual__dropout": 0.2}))
    graft(model, "layers.*.ffn", grafts("bottleneck", size=4))
    check(model)


def test_bf16_layers_of_the_compiled_step_too():
    model = build(spec(**{"dim": 64, "depth": 3, "blocks__0__residual__dropout": 0.2})).bfloat16()
    check(model)


def test_what_is_kept_is_measured_and_shrinks():
    model, (token_BT, layout) = build(spec(**{"dim": 64, "depth": 6})).train(), both()[0]

    def kept():
        held = []

        def pack(x):
            held.append(x)
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = model(token_BT, layout).square().mean()
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        places = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in held}
        del loss
        return sum(n for place, n in places.items() if place not in weights)

    said = fused.measured(model, lambda: model(token_BT, layout).square().mean())
    assert said.whole == kept() and len(said.layers) == 6
    with kernels.recomputing():
        outside = kept()
    inside = max(inside for _, inside in said.layers)
    assert outside + inside == said.recomputed
    assert said.recomputed < said.whole / 2


def test_measuring_leaves_a_model_as_it_was():
    model = build(spec(**{"dim": 32, "depth": 1}))
    model.register_buffer("count", torch.zeros(()))
    model.layers[0].register_forward_hook(lambda *_: model.count.add_(1))
    token_BT, layout = both()[0]
    fused.measured(model, lambda: model(token_BT, layout).sum())
    assert model.count == 0


def test_measuring_leaves_nothing_behind():
    model, (token_BT, layout) = build(spec(**{"dim": 32, "depth": 2})).train(), both()[0]
    given = []

    def forward():
        y = model(token_BT, layout).softmax(-1)  # a function that keeps what it gave
        given.append(weakref.ref(y))
        return y.square().mean()

    with kernels.piecewise():
        fused.measured(model, forward)
    gc.collect()
    assert given[0]() is None
