"""Listening and speaking up."""

import pytest
import torch
from toy import both, build, encoder_spec

from bertsmith import tap


def test_what_is_said_under_one_name_adds_up():
    x = torch.ones((), requires_grad=True)
    with tap.heard() as extra:
        tap.say("a", 2 * x)
        tap.say("a", 3 * x)
        tap.say("b", x)
    assert {k: v.item() for k, v in extra.items()} == {"a": 5.0, "b": 1.0}
    sum(extra.values()).backward()
    assert x.grad == 6.0


def test_nobody_listening_or_no_gradient_is_silence():
    x = torch.ones((), requires_grad=True)
    tap.say("a", x)
    with tap.heard() as extra, torch.no_grad():
        tap.say("a", 2 * x)
    assert extra == {}


def test_an_inner_listener_keeps_what_it_heard_and_an_error_ends_listening():
    x = torch.ones((), requires_grad=True)
    with tap.heard() as outer:
        with tap.heard() as inner:
            tap.say("a", x)
        with pytest.raises(RuntimeError, match="stop"), tap.heard() as broken:
            raise RuntimeError("stop")
        tap.say("b", x)
    assert list(outer) == ["b"] and list(inner) == ["a"] and broken == {}


def test_see_looks_on_and_changes_nothing():
    model, (pad, _) = build(encoder_spec()), both()
    before, seen = model(*pad), {}
    with tap.see(model, "layers.*.mixer.core", lambda path, inputs, output: seen.update({path: (inputs, output)})):
        assert torch.equal(model(*pad), before)
    assert list(seen) == ["layers.0.mixer.core", "layers.1.mixer.core"]
    (q, k, v, mask, scale, _), y = seen["layers.0.mixer.core"]
    score = (q @ k.transpose(-1, -2) * scale).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(score.softmax(-1) @ v, y)
    model(*pad)
    assert len(seen) == 2 and not any(m._forward_hooks for m in model.modules())


def test_see_raises_when_it_heard_nothing():
    model, (pad, _) = build(encoder_spec()), both()
    with (
        pytest.raises(RuntimeError, match="nothing was heard at 'layers.0'"),
        tap.see(model, "layers.0", lambda *a: None),
    ):
        pass
    with pytest.raises(ValueError, match="matches 'nope'"), tap.see(model, "nope", lambda *a: None):
        model(*pad)
    assert not any(m._forward_hooks for m in model.modules())
