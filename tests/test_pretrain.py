"""From text to a model in one call, and what can be said about a run by dotted paths."""

import json

import pytest
import torch

import bertsmith
from bertsmith.methods import all_recipes
from bertsmith.pretrain import find_data, override, parse_override, pretrain

TEXT = "the cat sat on the mat .\nthe dog lay on the log .\n\nthe cow ran to the barn .\nthe hen saw the cow .\n\n"


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT * 20)
    return tmp_path / "text.txt"


@pytest.fixture
def run(tmp_path):
    special = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    (tmp_path / "manifest.json").write_text(json.dumps({"vocabulary": 100, "special": special}))
    return all_recipes()["bert_tiny"](tmp_path)


SMALL = {"stages.0.data.rows": 2, "stages.0.data.length": 16, "log_every": 1, "workers": 0}


def test_from_text_to_a_model_and_on_again(text, tmp_path):
    said = []
    kept = {"overrides": SMALL, "vocab": 60, "workers": 0, "progress": False, "say": said.append}
    model = pretrain("bert_tiny", text, tmp_path / "run", budget="3-steps", **kept)
    assert (tmp_path / "run" / "report.html").exists() and len(said) == 2
    again = pretrain("bert_tiny", text, tmp_path / "run", budget="3-steps", **kept)
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3 and len(said) == 2
    opened = bertsmith.load(tmp_path / "run")
    for other in (again, opened):
        for name, tensor in model.bundle.state_dict().items():
            assert torch.equal(tensor, other.bundle.state_dict()[name]), name
    assert len(opened.fill("the [MASK] sat on the mat .").guesses[0]) == 5


def test_every_part_of_a_run_can_be_said_by_its_path(run):
    changes = {
        "seed": 3,
        "precision": "fp32",
        "encoder.depth": 1,
        "encoder.blocks.*.ffn": {"kind": "ffn/glu", "hidden": 8},
        "stages.0.budget": "7-steps",
        "stages.*.optim.lr": 1,
        "stages.0.objective.masking.rate": 0.4,
    }
    changed = run
    for path, value in changes.items():
        changed = override(changed, path, value)
    assert (changed.seed, changed.precision, changed.encoder.get("depth")) == (3, "fp32", 1)
    assert changed.encoder.get("blocks.0.ffn.hidden") == 8 and changed.stages[0].budget == "7-steps"
    assert changed.stages[0].optim.get("lr") == 1.0 and changed.stages[0].objective.get("masking.rate") == 0.4
    assert run.seed == 0 and run.encoder.get("depth") == 2


def test_a_method_is_changed_by_its_name_and_keeps_what_both_have(run):
    run = override(run, "encoder.blocks.0.residual.dropout", 0.3)
    for name in ("pre", "residual/pre"):
        residual = override(run, "encoder.blocks.0.residual", name).encoder.get("blocks.0.residual")
        assert residual.kind == "pre" and residual.args["dropout"] == 0.3
        assert residual.args["norm"].to_dict() == run.encoder.get("blocks.0.residual.norm").to_dict()
    assert override(run, "stages.0.schedule", "cosine").stages[0].schedule.kind == "cosine"
    turned = override(run, "encoder.blocks.0.mixer.position", "position/rope").encoder
    assert turned.get("blocks.0.mixer.position").kind == "rope"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("sed", 1, "Run has no 'sed'; it has: encoder, log_every"),
        ("encoder.dpeth", 1, "encoder/stack has no 'dpeth'; it has:"),
        ("stages.1.budget", "1-steps", "say stages.0.NAME to stages.0.NAME"),
        ("stages", 1, "say stages.0.NAME"),
        ("stages.0.optmi.lr", 1.0, "Stage has no 'optmi'"),
        ("stages.0.optim.lr", "fast", 'is 0.001, so it cannot be "fast"'),
        ("seed.low", 1, "nothing stands below it"),
        ("seed", True, "is 0, so it cannot be true"),
        ("stages.0.optim", {"kind": "ffn/mlp", "hidden": 4}, "is of the room optim, so it cannot be ffn/mlp"),
        ("encoder.blocks.0.residual", "ppre", "no residual method 'ppre'; there are: "),
        ("encoder.blocks.0.residual", {"kind": "residual/pre"}, "residual/pre needs norm"),
    ],
)
def test_a_wrong_override_says_what_there_is(run, path, value, says):
    with pytest.raises(ValueError, match=says):
        override(run, path, value)


def test_overrides_are_read_as_json_or_text():
    assert parse_override("a.b=2") == ("a.b", 2) and parse_override("a=bf16") == ("a", "bf16")
    assert parse_override("a=[1, 2]") == ("a", [1, 2]) and parse_override("a=b=c") == ("a", "b=c")
    with pytest.raises(ValueError, match="an override is PATH=VALUE"):
        parse_override("encoder.depth")


def test_data_is_found_below_the_folder_that_the_environment_names(tmp_path, monkeypatch, text):
    monkeypatch.setenv("BERTSMITH_DATA", str(tmp_path))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert find_data("text.txt") == [str(text)] and find_data(["*.txt", "-"]) == [str(tmp_path / "*.txt"), "-"]
    assert find_data("nowhere.txt") == ["nowhere.txt"]
    monkeypatch.chdir(tmp_path)
    assert find_data("text.txt") == ["text.txt"]


def test_errors(tmp_path, text):
    with pytest.raises(ValueError, match="no recipe 'bert_huge'; there are: "):
        pretrain("bert_huge", text, tmp_path / "run")
    with pytest.raises(ValueError, match="cannot read the budget"):
        pretrain("bert_tiny", text, tmp_path / "run", budget="soon")
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        pretrain("bert_tiny", tmp_path / "no.txt", tmp_path / "run", progress=False, say=lambda line: None)
