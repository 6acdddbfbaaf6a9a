"""Pieces compose: of mixer, core, position, norm, residual, ffn, activation and block, every pair of kinds meets somewhere.

A combination that cannot be is refused by the piece itself, with a ValueError when it is built; none is listed here.
"""

import copy
import itertools
import random

import pytest
import torch
from toy import both, build, encoder_spec, example, places, states

from bertsmith.spec import Spec, find_slot

ROOMS = ("block", "mixer", "core", "position", "norm", "residual", "ffn", "act")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order


def all_pairs(choices, seed=0):
    """Few combinations in which any two values of any two rooms meet: greedy, the best of some random ones each time."""
    rng = random.Random(seed)
    pair = lambda one: {(a, b) for a, b in itertools.combinations(sorted(one.items()), 2)}  # noqa: E731
    left = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(sorted(choices), 2)
        for x, y in itertools.product(choices[a], choices[b])
    }
    found = []
    while left:
        fixed = dict(min(left))
        options = [{room: fixed.get(room, rng.choice(kinds)) for room, kinds in choices.items()} for _ in range(30)]
        best = max(options, key=lambda one: len(pair(one) & left))
        left -= pair(best)
        found.append(best)
    return found


COMBINATIONS = all_pairs({room: find_slot(room).kinds() for room in ROOMS})


def substitute(value, room, new):
    """Every Spec of a room, the outermost of nested ones, becomes `new`."""
    if isinstance(value, list):
        return [substitute(v, room, new) for v in value]
    if not isinstance(value, Spec):
        return value
    if value.slot.name == room:
        return new
    return value.slot(value.kind, **{k: substitute(v, room, new) for k, v in value.args.items()})


def assemble(choice):
    """A toy encoder of these kinds; what a chosen piece has no place for is left out."""
    spec = encoder_spec("block", choice["block"])
    for room in ("mixer", "ffn", "residual", "norm"):
        spec = substitute(spec, room, example(room, choice[room]))
    where = places("position", choice["position"])
    for i, block in enumerate(spec.args["blocks"]):
        for path, inner in specs(block):
            at = ".".join(["blocks", str(i), *path])
            if "position" in inner.args and inner.slot.name == "mixer" and any(p.startswith("blocks") for p in where):
                spec = spec.replace(f"{at}.position", example("position", choice["position"]))
            if "core" in inner.args and inner.slot.name == "mixer":
                spec = spec.replace(f"{at}.core", example("core", choice["core"]))
            if "act" in inner.args and inner.slot.name == "ffn":
                spec = spec.replace(f"{at}.act", example("act", choice["act"]))
    if "embedding.position" in where:
        spec = spec.replace("embedding.position", example("position", choice["position"]))
    return spec


def specs(value, path=()):
    """(path, Spec) of everything inside."""
    if isinstance(value, Spec):
        yield path, value
    inner = value.args.items() if isinstance(value, Spec) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inner:
        yield from specs(member, (*path, str(key)))


def said(choice):
    return " ".join(f"{room}/{kind}" for room, kind in choice.items())


@pytest.mark.parametrize("choice", COMBINATIONS, ids=[str(i) for i in range(len(COMBINATIONS))])
def test_any_two_kinds_meet(choice):
    try:
        model = build(assemble(choice))
    except ValueError as refusal:
        assert len(str(refusal)) > 30, f"{said(choice)}: a refusal says what to do"
        return
    if (
        choice["norm"] == "affine"
    ):  # norms nothing: a gated feed-forward squares its input, layer after layer, past float32
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.5 if p.dim() > 1 else 1.0)
    pad, pack = both()
    x = states(model(*pad), pad[1])
    assert bool(x.isfinite().all()), said(choice)
    if not any(vars(type(m)).get("crosses") for m in model.modules()):
        exact = copy.deepcopy(
            model
        ).double()  # pieces without a norm make large states, whose rounding is large in float32
        x64, y64 = states(exact(*pad), pad[1]), states(exact(*pack), pack[1])
        torch.testing.assert_close(x64, y64, **CLOSE, msg=lambda m: f"{said(choice)}: {m}")
    x.square().sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters()), said(choice)
    z = copy.deepcopy(model).bfloat16()(*pad)
    assert z.dtype == torch.bfloat16 and bool(z.isfinite().all()), said(choice)


def test_the_combinations_cover_every_pair():
    rooms = {room: find_slot(room).kinds() for room in ROOMS}
    for a, b in itertools.combinations(ROOMS, 2):
        met = {(c[a], c[b]) for c in COMBINATIONS}
        assert met == set(itertools.product(rooms[a], rooms[b]))


@pytest.mark.slow
def test_most_combinations_work():
    refused = 0
    for choice in COMBINATIONS:
        try:
            assemble(choice).build()
        except ValueError:
            refused += 1
    assert refused < len(COMBINATIONS) / 3
