"""`bertsmith export`: files that other programs open, equal to the model; refusals that leave nothing behind."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from families import VOCAB, cases
from golden.make import tokenizer
from test_families import BARE, MODULES, reference

import bertsmith
from bertsmith import cli
from bertsmith.edit import edit as edits
from bertsmith.export import export, onnx, parity, target
from bertsmith.graft import graft as grafts
from bertsmith.head import head as heads
from bertsmith.hf.bert import bert_encoder
from bertsmith.layout import Layout
from bertsmith.linear import edit, graft
from bertsmith.model import Bundle, Model
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.residual import residual
from bertsmith.spec import Spec
from bertsmith.task import task as tasks

TEXTS = ["w1 w7 w3 w9 w2", "w4", "w5 w6 w7"]
HEADS = {
    "classification": heads("linear", pool=pools("bert")),
    "token": heads("token"),
    "qa": heads("span"),
    "masked_lm": heads("masked_lm", norm=norm("layer")),
    "embedding": None,
}
ROOT = Path(__file__).resolve().parent.parent
# What a family cannot be written as, and why; docs/export.md says the same.
CANNOT = {
    ("big_bird", "openvino"): "OpenVINO does not convert torch's aten.__rshift__",
    ("fnet", "openvino"): "OpenVINO does not convert torch's aten._fft_r2c, aten.view_as_real",
}
FAMILIES = {name: next(c for c in m.CASES if c in BARE) for name, m in MODULES.items()}


def made(head: Spec | None, depth: int = 1, task: Spec | None = None, pooling: str = "mean") -> Model:
    """A small BERT with random weights."""
    torch.manual_seed(0)
    spec = bert_encoder(depth, 16, 2, VOCAB, length=24)
    encoder = spec.build()
    labels = ["no", "yes", "both"] if head is not None and head.kind in ("linear", "token") else []
    bundle = Bundle(encoder, head.build(encoder, len(labels)) if head else None)
    return Model(spec, bundle, tokenizer(VOCAB), head, task, labels, pooling, max_length=24)


def opened(case, folder):
    """A tiny reference as a user has it: saved by `transformers`, opened by us, for texts of up to 32 tokens."""
    reference(case).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    config = json.loads((folder / "config.json").read_text())
    tokenizer(VOCAB, pad=config.get("pad_token_id") or 0).save(str(folder / "tokenizer.json"))
    return bertsmith.load(folder)


def coded(model, texts=TEXTS):
    """Texts as the inputs of a graph: int64 [B, T]."""
    ((index, token_BT, layout),) = model.tokens(texts)
    type_BT = torch.zeros_like(token_BT) if layout.type_BT is None else layout.type_BT
    order = torch.tensor(index).argsort()  # batches come by length
    return {
        "input_ids": token_BT[order],
        "attention_mask": layout.real_BT.long()[order],
        "token_type_ids": type_BT[order],
    }


def wanted(model, given):
    """The logits of the model's own head for these ids, in eager fp32."""
    layout = Layout.padded(given["attention_mask"], given["token_type_ids"])
    with torch.no_grad():
        return model.head(model.encoder(given["input_ids"], layout), layout)


def session(folder):
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed").InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )


def arrays(given):
    return {name: x.numpy() for name, x in given.items()}


def test_torch_opens_the_program(tmp_path):
    model = made(HEADS["classification"], task=tasks("single_label"))
    about = export(model, "torch", tmp_path / "out")
    assert json.loads((tmp_path / "out/export.json").read_text()) == about
    assert about["labels"] == ["no", "yes", "both"] and about["max_length"] == 24 and about["outputs"] == ["logits"]
    assert [[1, 1], [1, 2], [2, 7], [3, 24], [2, 24], [1, 24]] == about["parity"]["shapes"]
    assert 0 <= about["parity"]["difference"] < 1e-5
    program, given = torch.export.load(tmp_path / "out/model.pt2").module(), coded(model)
    torch.testing.assert_close(program(*given.values())["logits"], wanted(model, given), rtol=1e-4, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("ending", ["SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM"])
def test_transformers_opens_its_class(ending, tmp_path):
    transformers = pytest.importorskip("transformers")
    (case,) = cases("Bert", f"For{ending}")
    reference(case).save_pretrained(tmp_path / "theirs")
    tokenizer(VOCAB).save(str(tmp_path / "theirs/tokenizer.json"))
    model = bertsmith.load(tmp_path / "theirs")
    about = export(model, "hf", tmp_path / "out")
    assert about["file"] == "" and about["parity"]["difference"] < 1e-5
    opened, given = getattr(transformers, case.stock).from_pretrained(tmp_path / "out").eval(), coded(model)
    with torch.no_grad():
        found, y = opened(**given), wanted(model, given)
    real = given["attention_mask"] > 0
    got = torch.stack([found.start_logits, found.end_logits], -1) if "Question" in ending else found.logits
    torch.testing.assert_close(*((x[real] if x.dim() == 3 else x) for x in (got, y)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_sentence_transformers_opens_the_directory(normalize, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    model = made(HEADS["masked_lm"], pooling="first")
    about = export(model, "sentence-transformers", tmp_path / "out", embedding=True, normalize=normalize)
    assert about["checked_with"].startswith("sentence-transformers") and about["normalized"] is normalize
    found = library.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    want = model.encode(TEXTS, normalize=normalize, precision="exact")
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_onnx_runtime_gives_what_the_head_gives(name, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (an extra: export)")
    model = made(HEADS[name], depth=2, pooling="first" if name == "embedding" else "mean")
    about = export(model, "onnx", tmp_path / "out", normalize=name == "embedding")
    assert about["opset"] == onnx.OPSET and about["checked_with"].startswith("onnxruntime")
    opened, given = session(tmp_path / "out"), coded(model)
    assert [x.name for x in opened.get_inputs()] == about["inputs"] == list(given)
    assert [x.shape for x in opened.get_inputs()] == [["batch", "length"]] * 3
    found = dict(zip(about["outputs"], opened.run(about["outputs"], arrays(given)), strict=True))
    real = given["attention_mask"].bool().numpy()
    if name == "embedding":
        want = model.encode(TEXTS, normalize=True, precision="exact")
        np.testing.assert_allclose(found["embedding"], want, rtol=1e-4, atol=1e-5)
        assert found["last_hidden_state"].shape == (*real.shape, 16)
    else:
        a, b = found["logits"], wanted(model, given).numpy()
        np.testing.assert_allclose(*((x[real] if x.ndim == 3 else x) for x in (a, b)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_without_onnx_runtime_the_reference_evaluator_checks_and_it_is_said(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (an extra: export)")
    monkeypatch.setattr(onnx, "installed", lambda package: False)
    about = export(made(HEADS["classification"]), "onnx", tmp_path / "out")
    assert about["checked_with"].startswith("onnx ") and about["parity"]["shapes"] == [[1, 1], [1, 2]]


@pytest.mark.slow
def test_openvino_opens_the_graph(tmp_path):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed (an extra: fast)")
    model = made(HEADS["token"])
    export(model, "openvino", tmp_path / "out")
    compiled = openvino.Core().compile_model(tmp_path / "out/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = coded(model)
    real = given["attention_mask"] > 0
    found = torch.from_numpy(compiled(arrays(given))["logits"])
    torch.testing.assert_close(found[real], wanted(model, given)[real], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind, where", [("bottleneck", "layers.*.ffn"), ("prefix", "layers.*.mixer.core")])
def test_a_graft_is_in_the_graph(kind, where, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (an extra: export)")
    model = made(HEADS["classification"])
    for p in model.bundle.parameters():
        p.data *= 10 if p.dim() > 1 else 1  # as they start, weights are so small that little of a text is in the logits
    before = wanted(model, given := coded(model))
    graft(model.encoder, where, grafts(kind))
    torch.manual_seed(1)
    for name, p in model.encoder.named_parameters():
        if ".grafts." in name:
            p.data += torch.randn_like(p)
    after = wanted(model, given)
    assert not torch.allclose(before, after, atol=1e-3)
    export(model, "onnx", tmp_path / "out")
    (found,) = session(tmp_path / "out").run(None, arrays(given))
    np.testing.assert_allclose(found, after.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=f"no class of transformers holds graft/{kind}"):
        export(model, "hf", tmp_path / "hf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_an_edit_is_baked_and_the_model_stays_as_it_is(tmp_path):
    model = made(HEADS["classification"])
    edit(model.encoder, "**.mixer.[qv]", edits("lora", rank=2))
    for name, p in model.encoder.named_parameters():
        if ".edits." in name:
            p.data += torch.randn_like(p)
    export(model, "hf", tmp_path / "out")
    again, given = bertsmith.load(tmp_path / "out"), coded(model)
    assert not again.encoder.changes and model.encoder.changes
    torch.testing.assert_close(wanted(again, given), wanted(model, given), rtol=1e-4, atol=1e-5)


def test_what_no_stock_class_holds_is_refused_by_name(tmp_path):
    sandwich = residual("sandwich", norm=norm("layer"))
    spec = bert_encoder(1, 16, 2, VOCAB, length=24).replace("blocks.0.residual", sandwich)
    model = Model(spec, Bundle(spec.build(), None), tokenizer(VOCAB), max_length=24)
    with pytest.raises(ValueError, match="bert cannot hold blocks.0.residual = residual/sandwich"):
        export(model, "hf", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_mismatch_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    model = made(HEADS["classification"])
    export(model, "hf", tmp_path / "out")
    before = (tmp_path / "out/export.json").read_bytes()
    monkeypatch.setattr(parity, "_difference", lambda a, b: 0.5)
    for out in ("out", "other"):  # what an earlier export wrote stays, too
        with pytest.raises(RuntimeError, match="gives other numbers than the model.*0.5.* where 0.0001 is allowed"):
            export(model, "hf", tmp_path / out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out/export.json").read_bytes() == before


def test_a_difference_is_seen_where_it_counts():
    """NaN, another shape and a real token count; padding does not."""
    want = torch.zeros(2, 3, 4)
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}

    def found(y):
        return parity.compare(lambda _: {"logits": y}, {"logits"}, [batch], [{"logits": want}])["difference"]

    padding, real = want.clone(), want.clone()
    padding[1, 2], real[1, 0, 3] = 7, 0.25
    assert found(padding) == 0 and found(real) == 0.25
    assert found(real / 0) == found(want[..., :3]) == torch.inf


def test_errors_name_the_thing(tmp_path, monkeypatch):
    model = made(HEADS["classification"])
    with pytest.raises(ValueError, match="no target 'tflite'; there are: onnx, openvino, torch, hf, sentence-tr"):
        export(model, "tflite", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="mine exists and was not written by an export"):
        export(model, "hf", tmp_path / "mine")
    with pytest.raises(ValueError, match="this model has a head: leave it off with --embedding"):
        export(model, "sentence-transformers", tmp_path / "out")
    with pytest.raises(ValueError, match="logits are not made one long"):
        export(model, "onnx", tmp_path / "out", normalize=True)
    with pytest.raises(ValueError, match="a class of transformers makes no vector one long"):
        export(model, "hf", tmp_path / "out", embedding=True, normalize=True)
    with pytest.raises(ValueError, match="the layout has no 'first' that marks the tokens with a label"):
        export(made(heads("crf", fact="first")), "onnx", tmp_path / "out")
    with pytest.raises(
        ValueError, match="cosine.* compares two texts that are read apart.*leave it off with --embedding"
    ):
        export(made(heads("cosine")), "torch", tmp_path / "out")
    monkeypatch.setattr(target, "installed", lambda package: False)
    for to, package, extra in (("onnx", "onnx and onnxscript", "export"), ("openvino", "openvino", "fast")):
        with pytest.raises(ImportError, match=rf"this needs {package}: pip install 'bertsmith\[{extra}\]'"):
            export(model, to, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_the_command_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    made(HEADS["masked_lm"]).save(tmp_path / "model")
    words = ["export", tmp_path / "model", "--to", "hf", "--out", tmp_path / "out", "--embedding", "--json"]
    for changed, code in ((words, 0), (words[:3] + ["tflite", *words[4:]], 2)):
        monkeypatch.setattr(sys, "argv", ["bertsmith", *map(str, changed)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == code
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["outputs"] == ["embedding", "last_hidden_state"] and said["out"] == str(tmp_path / "out")
    assert "no target 'tflite'" in err and bertsmith.load(tmp_path / "out").head is None


def test_the_page_says_what_was_measured_of_every_family(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("export_families")
    stored = json.loads(bench.STORED.read_text())
    assert set(stored["families"]) == set(FAMILIES)
    assert bench.table(stored) in (ROOT / "docs/export.md").read_text(encoding="utf-8")
    refused = {(name, to) for name, row in stored["families"].items() for to in bench.TARGETS if type(row[to]) is str}
    padding = {(name, "sentence-transformers") for name, case in FAMILIES.items() if case.reads_padding}
    assert refused == padding | set(CANNOT)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch", "onnx", "openvino", "hf", "sentence-transformers"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_leaves_or_says_why_not(name, to, tmp_path):
    needs = {"onnx": ["onnxscript", "onnxruntime"], "sentence-transformers": ["sentence_transformers"]}
    for package in needs.get(to, [to] if to == "openvino" else []):
        pytest.importorskip(package, reason=f"{package} is not installed")
    model = opened(FAMILIES[name], tmp_path / "theirs")
    why = CANNOT.get((name, to), "")
    if to == "sentence-transformers" and FAMILIES[name].reads_padding:  # which runs the reference
        why = "sentence-transformers .*(gives other numbers than the model|does not run it)"
    if not why:
        about = export(model, to, tmp_path / "out")
        assert about["parity"]["difference"] <= parity.TOLERANCE
    else:
        with pytest.raises((ValueError, RuntimeError), match=why):
            export(model, to, tmp_path / "out")
        assert not (tmp_path / "out").exists()
