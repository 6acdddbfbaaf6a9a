"""Every later commit opens the golden checkpoints and gives the outputs that they had when they were written."""

import json

import pytest
import torch
from golden.make import HERE, outputs
from safetensors.torch import load_file

import bertsmith

NAMES = sorted(p.name for p in HERE.iterdir() if (p / "outputs.safetensors").exists())


@pytest.mark.parametrize("name", NAMES)
def test_opens_and_gives_the_same(name, tmp_path):
    model = bertsmith.load(HERE / name)
    want, got = load_file(HERE / name / "outputs.safetensors"), outputs(model)
    assert want.keys() == got.keys()
    for key, value in want.items():  # another processor adds in another order
        torch.testing.assert_close(got[key], value, rtol=1e-5, atol=1e-6)
    model.save(tmp_path)
    old, new = load_file(HERE / name / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)


def test_there_are_some_and_they_say_their_format():
    assert {"masked_lm", "classifier", "changed"} <= set(NAMES)
    assert all(json.loads((HERE / n / "bertsmith.json").read_text())["format"] >= 1 for n in NAMES)


def test_a_newer_format_is_refused(tmp_path):
    bertsmith.load(HERE / "masked_lm").save(tmp_path)
    about = json.loads((tmp_path / "bertsmith.json").read_text())
    (tmp_path / "bertsmith.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ValueError, match="format 99.*newer"):
        bertsmith.load(tmp_path)
