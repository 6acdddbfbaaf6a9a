"""Specs: what is checked at once, what a message says, and dotted paths."""

import json

import pytest
from toy import encoder_spec

from bertsmith.ffn import ffn
from bertsmith.norm import norm
from bertsmith.recipes.tuning import named
from bertsmith.residual import residual
from bertsmith.spec import Slot, Spec, find_slot, named_spec, rooms
from bertsmith.task import task


def test_settings_are_checked_at_once_and_messages_list_what_exists():
    with pytest.raises(ValueError, match="no ffn method 'nope'; there are: .*glu, .*mlp"):
        ffn("nope")
    with pytest.raises(TypeError, match="ffn/mlp has no setting hiden; it has: hidden, act, bias"):
        ffn("mlp", hiden=3)
    with pytest.raises(TypeError, match="ffn/mlp needs hidden"):
        ffn("mlp")
    with pytest.raises(TypeError, match="ffn/mlp.hidden: a setting is plain JSON"):
        ffn("mlp", hidden=object())
    with pytest.raises(ValueError, match="no room 'nope'; there are: .*block, "):
        find_slot("nope")
    with pytest.raises(ValueError, match="it has no 'kind'"):
        Spec.from_dict({"hidden": 3})


def test_defaults_are_written_out_and_tuples_become_lists():
    spec = ffn("mlp", hidden=7)
    assert spec.to_dict() == {"kind": "ffn/mlp", "hidden": 7, "act": "gelu", "bias": True, "dropout": 0.0}
    optimiser = find_slot("optim")("adamw", betas=(0.8, 0.9))
    assert optimiser.args["betas"] == [0.8, 0.9]
    assert Spec.from_dict(json.loads(json.dumps(optimiser.to_dict()))) == optimiser


def test_build_hands_context_by_place_and_settings_by_name():
    piece = ffn("mlp", hidden=7, bias=False).build(5)
    assert piece.up.weight.shape == (7, 5) and piece.up.bias is None


def test_get_and_replace_go_through_specs_and_lists():
    spec = encoder_spec()
    assert spec.get("blocks.0.ffn.hidden") == spec.get("blocks.-1.ffn.hidden") == 24
    wider = spec.replace("blocks.*.ffn.hidden", 99)
    assert wider.get("blocks.0.ffn.hidden") == 99 and spec.get("blocks.0.ffn.hidden") == 24
    two = spec.replace("blocks", spec.args["blocks"] * 2).replace("blocks.1.ffn.hidden", 3)
    assert [b.args["ffn"].args["hidden"] for b in two.args["blocks"]] == [24, 3]
    swapped = spec.replace("blocks.*.residual", residual("pre", norm=norm("rms")))
    assert swapped.get("blocks.0.residual.norm.eps") == 1e-6


@pytest.mark.parametrize(
    "path,says",
    [
        ("blocks.*.ffn.hiden", "ffn/mlp has no 'hiden'; it has: hidden, act, bias"),
        ("blocks.3.ffn", "use 0 to 0, or \\*"),
        ("dim.x", "nothing stands below 'x'"),
    ],
)
def test_a_wrong_path_says_what_there_is(path, says):
    with pytest.raises(ValueError, match=says):
        encoder_spec().replace(path, 1)


def test_a_replaced_value_is_checked_too():
    with pytest.raises(TypeError, match="plain JSON"):
        encoder_spec().replace("blocks.0.ffn.hidden", {1, 2})


def test_an_alias_opens_what_was_saved_under_an_old_name():
    renamed = Slot("bertsmith.ffn", find_slot("ffn").base, aliases={"feed_forward": "mlp"})
    assert renamed("feed_forward", hidden=3).to_dict()["kind"] == "ffn/mlp"


def test_rooms_are_the_folders_that_hold_a_slot():
    assert {"mixer", "edit", "resize"} <= set(rooms()) and not {"hf", "corpus", "recipes"} & set(rooms())


def test_a_file_with_two_methods_is_refused(tmp_path, monkeypatch):
    import sys

    room = tmp_path / "odd_room"
    room.mkdir()
    (room / "__init__.py").write_text("class Base: pass\n")
    (room / "two.py").write_text("from odd_room import Base\nclass A(Base): pass\nclass B(Base): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import odd_room

    with pytest.raises(TypeError, match="must define exactly one Base, it defines 2"):
        Slot("odd_room", odd_room.Base).load("two")
    del sys.modules["odd_room"]


def test_a_word_of_the_command_line_may_hold_json_with_commas():
    assert named_spec("task", "ordinal") == task("ordinal")
    said = named_spec("task", 'single_label:weights={"a": 2, "b, c": 0.5},main=macro_f1,smoothing=0.1')
    assert said == task("single_label", weights={"a": 2, "b, c": 0.5}, main="macro_f1", smoothing=0.1)
    inner = named_spec("head", 'mlp:pool={"kind": "pool/mean"},dropout=0')
    assert inner.get("pool").kind == "mean" and inner.get("dropout") == 0
    assert named_spec("task", "tagging:scheme=bilou,tags=[]").get("scheme") == "bilou"
    for wrong in ("tagging:scheme", "tagging:scheme=io,stride", "tagging:,"):
        with pytest.raises(ValueError, match="settings are KEY=VALUE with commas between them"):
            named_spec("task", wrong)
    with pytest.raises(ValueError, match="task/single_label has no setting weight; it has: main, smoothing, weights"):
        named_spec("task", "single_label:weight=balanced")
    with pytest.raises(ValueError, match="task/single_label.smoothing is a number; got 'much'"):
        named_spec("task", "single_label:smoothing=much")
    with pytest.raises(ValueError, match="lora:rank=low: edit/lora.rank is a number; got 'low'"):
        named("lora:rank=low")
