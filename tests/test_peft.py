"""DoRA, (IA)3, VeRA, prefixes and prompts equal to `peft`, and its directories read and written."""

import importlib
import json
import pkgutil
import shutil
from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from families import SIZES, VOCAB
from golden.make import tokenizer
from safetensors.torch import load_file, save_file
from toy import build, documents, encoder_spec, packed, padded, states, wake

from bertsmith import hf
from bertsmith.edit import edit as edits
from bertsmith.edit.vera import pair
from bertsmith.graft import graft as grafts
from bertsmith.hf import peft as ours_of
from bertsmith.layout import Layout
from bertsmith.linear import Linear, bake, edit, graft, load_tensors, tensors, ungraft
from bertsmith.model import Bundle, Model
from bertsmith.spec import Spec

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order
PROMPT = 4
# whatever peft warns of while it saves (embedding layers among the targets) is what we do as well
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def base(stock="BertModel", config="BertConfig", **fields):
    """(a class of transformers, its config as saved), with biases and norms away from 0 and 1."""
    torch.manual_seed(0)
    sizes = {k: SIZES[k] for k in ("vocab_size", "max_position_embeddings", "num_labels")} if "dim" in fields else SIZES
    said = getattr(transformers, config)(**(sizes | fields), attn_implementation="eager")
    theirs = getattr(transformers, stock)(said).eval()
    frozen = {n: p.clone() for n, p in theirs.named_parameters() if not p.requires_grad}  # tables of sines
    wake(theirs).load_state_dict(frozen, strict=False)
    return theirs, said.to_dict() | {"architectures": [stock]}


def model_of(theirs, config):
    """Our model with the same weights."""
    spec, head_spec, held = hf.read(config, {k: v.clone() for k, v in theirs.state_dict().items()})
    encoder = spec.build()
    outputs = theirs.config.num_labels
    head = head_spec.build(encoder, outputs) if head_spec and any(k.startswith("head.") for k in held) else None
    bundle = Bundle(encoder, head)
    load_tensors(bundle, held)
    words = tokenizer(VOCAB, pad=config["pad_token_id"] or 0)
    longest = 40 - spec.get("embedding.position").args.get("offset", 0)
    return Model(spec, bundle, words, head_spec if head else None, max_length=longest, origin=config)


def batch(types=False):
    """(what theirs is given, ids, our layout): rows of three lengths."""
    docs = [d.clamp(max=VOCAB - 1) for d in documents((11, 7, 9))]
    token, layout = padded(docs)
    layout = layout if types else replace(layout, type_BT=None)
    given = {"input_ids": token, "attention_mask": layout.real_BT.long()}
    return given | ({"token_type_ids": layout.type_BT} if types else {}), token, layout


def trained(theirs, config):
    """Wrapped by peft, with random weights in all that trains."""
    wrapped = peft.get_peft_model(theirs, config).eval()
    names = {n for n, p in wrapped.named_parameters() if p.requires_grad}
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if name in names:
                p.add_(0.1 * torch.randn(p.shape, generator=rng))
    return wrapped


LAYERS = {"task_type": "FEATURE_EXTRACTION"}
METHODS = {
    "lora": lambda: peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=["query", "value", "word_embeddings"], use_rslora=True, **LAYERS,
        rank_pattern={"layer.1.attention.self.query": 2}, alpha_pattern={"layer.[12].*value": 7}),
    "dora": lambda: peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=["query", "intermediate.dense", "word_embeddings"], use_dora=True, **LAYERS),
    "ia3": lambda: peft.IA3Config(
        target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"], **LAYERS),
    "vera": lambda: peft.VeraConfig(r=5, target_modules=["query", "intermediate.dense"], projection_prng_key=3, **LAYERS),
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=PROMPT, **LAYERS),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=PROMPT, **LAYERS),
}  # fmt: skip


def changed(model):
    """Every tensor of the model's edits and grafts."""
    return {k: v for k, v in tensors(model.encoder).items() if ".edits." in k or ".grafts." in k}


def outputs(wrapped, model, name=""):
    given, token, layout = batch()
    y = wrapped(**given).last_hidden_state
    y = y[:, PROMPT:] if name == "prompt" else y
    return states(model.encoder(token, layout), layout), y[layout.real_BT]


@pytest.mark.parametrize("name", METHODS)
def test_outputs_and_every_gradient_are_pefts(name, tmp_path):
    theirs, config = base()
    model, other = model_of(theirs, config), model_of(theirs, config)
    wrapped = trained(theirs, METHODS[name]())
    wrapped.save_pretrained(tmp_path / "weights")
    paths = ours_of.read(tmp_path / "weights", model)
    assert paths and len(changed(model)) >= len(set(paths) - {"", "embedding"})
    x, y = outputs(wrapped, model, name)
    torch.testing.assert_close(x, y, **CLOSE)
    assert not torch.allclose(x, outputs(wrapped, other, name)[0], atol=1e-2)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    (x * weight).sum().backward()
    (y * weight).sum().backward()
    # their gradients, put in the place of their weights, come over as weights do
    for p in wrapped.parameters():
        if p.requires_grad:
            p.data = p.grad
    wrapped.save_pretrained(tmp_path / "gradients")
    ours_of.read(tmp_path / "gradients", other)
    want = changed(other)
    for k, v in changed(model).items():
        assert want[k].norm() > 1e-3
        assert (v.grad - want[k]).norm() < 1e-4 * want[k].norm(), k


@pytest.mark.parametrize("name", METHODS)
def test_a_directory_there_and_back_bit_for_bit(name, tmp_path):
    theirs, config = base()
    model = model_of(theirs, config)
    fresh, _ = base()
    wrapped = trained(theirs, METHODS[name]())
    wrapped.save_pretrained(tmp_path / "theirs")
    ours_of.read(tmp_path / "theirs", model)
    ours_of.write(model, tmp_path / "ours", base="some/base", head=False)
    a, b = (load_file(tmp_path / d / "adapter_model.safetensors") for d in ("theirs", "ours"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()
    assert again.peft_config["default"].base_model_name_or_path == "some/base"
    given, _, _ = batch()
    with torch.no_grad():
        x, y = wrapped(**given).last_hidden_state, again(**given).last_hidden_state
    torch.testing.assert_close(y, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "vera"])
def test_baked_is_merged(name, tmp_path):
    theirs, config = base()
    model = model_of(theirs, config)
    wrapped = trained(theirs, METHODS[name]())
    wrapped.save_pretrained(tmp_path)
    ours_of.read(tmp_path, model)
    x, _ = outputs(wrapped, model)
    bake(model.encoder)
    y, z = outputs(wrapped.merge_and_unload(), model)
    torch.testing.assert_close(x, y, **CLOSE)
    torch.testing.assert_close(y, z, **CLOSE)


# ---- classes and families

MODERN = {"pad_token_id": 0, "local_attention": 4, "attention_bias": True}
V3 = {
    "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "norm_rel_ebd": "layer_norm",
    "position_buckets": 8, "max_relative_positions": 16, "position_biased_input": False, "type_vocab_size": 0,
    "conv_kernel_size": 3, "conv_act": "gelu"}  # fmt: skip
FAMILIES = {
    "Bert": ({}, ["query", "intermediate.dense"]),
    "Roberta": ({}, ["query", "attention.output.dense"]),
    "XLMRoberta": ({}, ["value"]),
    "Electra": ({"embedding_size": 16}, ["key", "embeddings_project"]),
    "DistilBert": ({"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}, ["q_lin", "lin2"]),
    "ModernBert": (MODERN, ["Wqkv", "Wi", "Wo"]),
    "DebertaV2": (V3, ["query_proj", "key_proj"]),
    # fused, and with rows in another order
    "Deberta": ({"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}, ["in_proj"]),
    "RoFormer": ({}, ["query", "value"]),
}
CLASSIFIERS = [(name, "SEQ_CLS") for name in FAMILIES] + [("Bert", "TOKEN_CLS"), ("ModernBert", "TOKEN_CLS")]


def logits(wrapped, model):
    given, token, layout = batch()
    with torch.no_grad():
        y, x = wrapped(**given).logits, model.head(model.encoder(token, layout), layout)
    return (x, y) if x.dim() == 2 else (x[layout.real_BT], y[layout.real_BT])


@pytest.mark.parametrize("name, task", CLASSIFIERS)
def test_a_classifier_comes_and_goes_with_its_adapter(name, task, tmp_path):
    fields, targets = FAMILIES[name]
    theirs, config = base(name + ours_of.TASKS[task], name + "Config", **fields)
    fresh, _ = base(name + ours_of.TASKS[task], name + "Config", **fields)
    model = model_of(theirs, config)
    wrapped = trained(theirs, peft.LoraConfig(r=2, lora_alpha=3, task_type=task, target_modules=targets))
    assert not torch.allclose(*logits(wrapped, model), atol=1e-2)
    wrapped.save_pretrained(tmp_path / "theirs")
    ours_of.read(tmp_path / "theirs", model)
    x, y = logits(wrapped, model)
    torch.testing.assert_close(x, y, **CLOSE)
    ours_of.write(model, tmp_path / "ours")
    a, b = (load_file(tmp_path / d / "adapter_model.safetensors") for d in ("theirs", "ours"))
    assert a.keys() <= b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert not [k for k in b.keys() - a.keys() if "lora" in k]  # more of the head than they saved
    again = peft.PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()
    torch.testing.assert_close(logits(again, model)[1], y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert"])
def test_a_base_without_a_classifier_gets_the_adapters(name, tmp_path):
    fields, targets = FAMILIES[name]
    bare, config = base(name + "Model", name + "Config", **fields)
    model = model_of(bare, config | {"id2label": {"0": "a", "1": "b", "2": "c"}})
    theirs, _ = base(name + "ForSequenceClassification", name + "Config", **fields)
    missing, extra = getattr(theirs, theirs.base_model_prefix).load_state_dict(bare.state_dict(), strict=False)
    assert not missing and all("pooler" in k for k in extra)
    wrapped = trained(theirs, peft.LoraConfig(r=2, lora_alpha=3, task_type="SEQ_CLS", target_modules=targets))
    wrapped.save_pretrained(tmp_path)
    ours_of.read(tmp_path, model)
    torch.testing.assert_close(*logits(wrapped, model), **CLOSE)
    assert model.labels == ["a", "b", "c"] and model.task.kind == "single_label" and model.head_spec.kind == "linear"
    model.save(tmp_path / "whole")
    assert len(model.predict(["w1 w2", "w3"])) == 2


def test_a_head_that_would_be_random_is_refused(tmp_path):
    theirs, _ = base("BertForSequenceClassification")
    trained(theirs, peft.LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["query"])).save_pretrained(tmp_path)
    bare, config = base("BertForMaskedLM")
    model = model_of(bare, config)
    says = r"open the base with, or train with modules_to_save\) .*missing \['pool.dense.bias', 'pool.dense.weight'\]"
    refused(model, tmp_path, KeyError, says)


def test_layers_that_are_one_there_train_apart_and_are_written_as_one(tmp_path):
    """ModernBERT's q, k and v: an adapter of each, with its own A and rank, is one of a higher rank."""
    theirs, config = base("ModernBertModel", "ModernBertConfig", **MODERN)
    fresh, _ = base("ModernBertModel", "ModernBertConfig", **MODERN)
    model = model_of(theirs, config)
    edit(model.encoder, "**.mixer.[qk]", edits("lora", rank=2, alpha=6.0))
    edit(model.encoder, "layers.1.mixer.v", edits("lora", rank=3, alpha=6.0))
    edit(model.encoder, "layers.1.ffn.down", edits("lora", rank=2, alpha=1.0))
    wake(model.encoder, ".edits.")
    ours_of.write(model, tmp_path)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path).eval()
    torch.testing.assert_close(*outputs(again, model), **CLOSE)
    a = load_file(tmp_path / "adapter_model.safetensors")
    assert a["base_model.model.layers.0.attn.Wqkv.lora_A.weight"].shape == (4, 32)
    assert a["base_model.model.layers.1.attn.Wqkv.lora_A.weight"].shape == (7, 32)


@pytest.mark.parametrize("name, task", [("prefix", "SEQ_CLS"), ("prefix", "TOKEN_CLS"), ("prompt", "TOKEN_CLS")])
def test_prefixes_and_prompts_have_classifiers(name, task, tmp_path):
    theirs, config = base("Bert" + ours_of.TASKS[task])
    fresh, _ = base("Bert" + ours_of.TASKS[task])
    model = model_of(theirs, config)
    kind = {"prefix": peft.PrefixTuningConfig, "prompt": peft.PromptTuningConfig}[name]
    wrapped = trained(theirs, kind(num_virtual_tokens=PROMPT, task_type=task))
    wrapped.save_pretrained(tmp_path / "theirs")
    ours_of.read(tmp_path / "theirs", model)
    ours_of.write(model, tmp_path / "ours")
    given, token, layout = batch(types=task == "SEQ_CLS")  # theirs reads types for some tasks only
    x = model.head(model.encoder(token, layout), layout)
    for one in (wrapped, peft.PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()):
        y = one(**given).logits
        y = y[:, PROMPT:] if name == "prompt" else y
        torch.testing.assert_close(*((x, y) if x.dim() == 2 else (x[layout.real_BT], y[layout.real_BT])), **CLOSE)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_come_along(bias, tmp_path):
    theirs, config = base("BertForTokenClassification")
    fresh, _ = base("BertForTokenClassification")
    model = model_of(theirs, config)
    wrapped = trained(theirs, peft.LoraConfig(r=2, target_modules=["query"], bias=bias, task_type="TOKEN_CLS"))
    wrapped.save_pretrained(tmp_path / "theirs")
    ours_of.read(tmp_path / "theirs", model)
    x, y = logits(wrapped, model)
    torch.testing.assert_close(x, y, **CLOSE)
    ours_of.write(model, tmp_path / "ours", biases=True)
    a, b = (load_file(tmp_path / d / "adapter_model.safetensors") for d in ("theirs", "ours"))
    assert all(torch.equal(a[k], b[k]) for k in a if "original_module" not in k and "modules_to_save" not in k)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()
    torch.testing.assert_close(logits(again, model)[1], y, rtol=0, atol=1e-6)


# ---- refusals


def refused(model, folder, error, says):
    """An error, and the model as it was."""
    before = {k: v.clone() for k, v in tensors(model.bundle).items()}
    changes, head = list(model.encoder.changes), model.bundle.head
    with pytest.raises(error, match=says):
        ours_of.read(folder, model)
    now = tensors(model.bundle)
    assert now.keys() == before.keys() and all(torch.equal(now[k], before[k]) for k in now)
    assert (
        model.encoder.changes == changes
        and model.bundle.head is head
        and model.spec == Spec.from_dict(model.spec.to_dict())
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(a directory of peft's with LoRA on q and v and a classifier, our model of its base)."""
    folder = tmp_path_factory.mktemp("saved")
    theirs, config = base("BertForSequenceClassification")
    model = model_of(theirs, config)
    trained(theirs, peft.LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["query", "value"])).save_pretrained(
        folder
    )
    return folder, model


Q = "base_model.model.bert.encoder.layer.0.attention.self.query"


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"peft_type": "OFT"}, "'OFT' are not read; there are: LORA, IA3, VERA, PREFIX_TUNING, PROMPT_TUNING"),
        ({"use_qalora": True}, "use_qalora True is not supported"),
        ({"trainable_token_indices": [3]}, r"trainable_token_indices \[3\] is not supported"),
        ({"init_lora_weights": "pissa"}, "'pissa' is not supported: it changes the base weights"),
        ({"task_type": "CAUSAL_LM"}, "'CAUSAL_LM' is not supported; there are: SEQ_CLS"),
        (
            {"task_type": None, "auto_mapping": {"base_model_class": "RobertaModel"}},
            "for RobertaModel, and this model is",
        ),
        ({"r": 3}, r"adapter of layers.0.mixer.q does not fit .*'a \[2, 32\] for \[3, 32\]'"),
        (
            {"target_modules": ["query", "value", "key"]},
            r"layer.0.attention.self.key would stay random.*lacks its \['lora_A.weight'",
        ),
        ({"target_modules": ["query"]}, "no place in LORA of BertForSequenceClassification, .*value.lora_A"),
        ({"num_virtual_tokens": 3}, "LORA with num_virtual_tokens 3 is not supported"),
        ({"bias": "all"}, r"bias names tensors that the file does not have: \['bert.embeddings.LayerNorm.bias'"),
        ({"bias": "lora_only"}, r"does not have: \['bert.encoder.layer.0.attention.self.query.bias'"),
        ({"bias": "vera_only"}, "bias 'vera_only' is not supported; there are: none, all, lora_only"),
        ({"modules_to_save": ["classifier", "pooler"]}, r"file does not have: \['bert.pooler.dense.bias'"),
        ({"use_dora": True}, r"query would stay random: .*lacks its \['lora_magnitude_vector'\]"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused_by_name(fields, says, saved, tmp_path):
    folder, model = saved
    shutil.copytree(folder, tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    refused(model, tmp_path / "adapter", (ValueError, KeyError), says)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda held: held.pop(f"{Q}.lora_B.weight"), r"query would stay random: .*lacks its \['lora_B.weight'\]"),
        (lambda held: held.update({f"{Q}.lora_C": torch.ones(1)}), "no place in LORA of BertForSequence.*lora_C"),
        (lambda held: held.update({"else": torch.ones(1)}), "no place in LORA of .*else"),
        (lambda held: held.update({f"{Q}.lora_A.weight": torch.ones(2, 5)}), r"'a \[2, 5\] for \[2, 32\]'"),
        (lambda held: held.update({f"{Q}.lora_B.weight": torch.ones(5, 2)}), "5 rows in the file, for 32 outputs"),
        (lambda held: held.pop("base_model.model.classifier.bias"), r"does not have: \['classifier.bias'\]"),
        (lambda held: [held.pop(k) for k in list(held) if "lora" in k], "would stay random"),
        (
            lambda held: held.update({"base_model.model.bert.pooler.dense.lora_A.weight": torch.ones(2, 32)}),
            "no place in LORA of .*pooler.dense.lora_A",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change, says, saved, tmp_path):
    folder, model = saved
    shutil.copytree(folder, tmp_path / "adapter")
    held = load_file(folder / "adapter_model.safetensors")
    change(held)
    save_file(held, tmp_path / "adapter/adapter_model.safetensors")
    refused(model, tmp_path / "adapter", KeyError, says)


def test_a_damaged_directory_says_so(saved, tmp_path):
    folder, model = saved
    refused(model, tmp_path, FileNotFoundError, "no adapter of peft: it has no adapter_config.json")
    whole = (folder / "adapter_model.safetensors").read_bytes()
    shutil.copy(folder / "adapter_config.json", tmp_path)
    refused(model, tmp_path, FileNotFoundError, "has no adapter_model.safetensors")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    refused(model, tmp_path, ValueError, "pickled weights only")
    for size in (0, 5, 100, len(whole) - 1):
        (tmp_path / "adapter_model.safetensors").write_bytes(whole[:size])
        refused(model, tmp_path, ValueError, "is damaged")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LO')
    refused(model, tmp_path, ValueError, "is damaged")


def test_a_layer_of_the_head_and_a_name_that_is_taken(tmp_path):
    theirs, config = base("BertForSequenceClassification")
    model = model_of(theirs, config)
    trained(theirs, peft.LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["dense"])).save_pretrained(tmp_path)
    refused(model, tmp_path, ValueError, "bert.pooler.dense is in the head")
    theirs, config = base()
    model = model_of(theirs, config)
    trained(theirs, METHODS["ia3"]()).save_pretrained(tmp_path / "ia3")
    ours_of.read(tmp_path / "ia3", model)
    refused(model, tmp_path / "ia3", ValueError, "has an edit named 'ia3' already")
    ours_of.read(tmp_path / "ia3", model, name="second")
    assert {c["name"] for c in model.encoder.changes} == {"ia3", "second"}


def test_what_means_something_else_there_is_refused(tmp_path):
    theirs, config = base("BertForSequenceClassification")
    model = model_of(theirs, config)
    trained(theirs, peft.PromptTuningConfig(num_virtual_tokens=PROMPT, task_type="SEQ_CLS")).save_pretrained(
        tmp_path / "p"
    )
    refused(model, tmp_path / "p", ValueError, "reads the state of the prompt's first vector")
    theirs, config = base("BertForMaskedLM")
    model = model_of(theirs, config)
    trained(theirs, peft.LoraConfig(r=2, target_modules=["word_embeddings"])).save_pretrained(tmp_path / "t")
    refused(model, tmp_path / "t", ValueError, "an edit of the token table also changes the head")
    theirs, config = base()
    model = model_of(theirs, config)
    trained(theirs, METHODS["vera"]()).save_pretrained(tmp_path / "v")
    held = load_file(tmp_path / "v/adapter_model.safetensors")
    held["base_model.vera_A"][0, 0] += 1
    save_file(held, tmp_path / "v/adapter_model.safetensors")
    refused(model, tmp_path / "v", ValueError, "are not what projection_prng_key 3 gives here")


@pytest.mark.parametrize(
    "name, fields, says",
    [
        ("prefix", {"num_virtual_tokens": 9}, "4 prompt_embeddings in the file, 9 in adapter_config.json"),
        ("prompt", {"num_virtual_tokens": 9}, "4 prompt_embeddings in the file, 9 in adapter_config.json"),
        ("prefix", {"num_attention_heads": 8}, "for another encoder: num_attention_heads 8, not 4"),
        ("prompt", {"num_transformer_submodules": 2}, "another encoder: num_transformer_submodules 2, not 1"),
        ("prefix", {"task_type": None}, "PREFIX_TUNING without task_type is not supported"),
        ("ia3", {"feedforward_modules": []}, "output.dense: a tensor of 1 rows in the file, for 32 outputs"),
        ("ia3", {"feedforward_modules": "no.*"}, "output.dense: a tensor of 1 rows in the file, for 32 outputs"),
        ("ia3", {"feedforward_modules": ["key", "output.dense"]}, r"'scale \[32, 1\] for \[32\]'"),
        ("vera", {"projection_prng_key": 4}, "not what projection_prng_key 4 gives"),
    ],
)
def test_what_a_method_says_of_itself_is_read(name, fields, says, tmp_path):
    theirs, config = base()
    model = model_of(theirs, config)
    trained(theirs, METHODS[name]()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    refused(model, tmp_path, (KeyError, ValueError), says)


def lora(model):
    edit(model.encoder, "layers.0.mixer.q", edits("lora", rank=2))


@pytest.mark.parametrize(
    "prepare, says",
    [
        (lambda m: None, "nothing to write"),
        (
            lambda m: graft(m.encoder, "layers.0.ffn", grafts("bottleneck")),
            "does not hold graft/bottleneck; it holds: edit",
        ),
        (lambda m: graft(m.encoder, "layers.*.mixer.core", grafts("prefix")), "graft/p_tuning instead"),
        (lambda m: (lora(m), edit(m.encoder, "layers.0.mixer.k", edits("ia3"))), "here are edit/ia3, edit/lora"),
        (
            lambda m: (lora(m), edit(m.encoder, "layers.0.mixer.q", edits("lora"), "b")),
            "has the edits lora, b; peft holds one",
        ),
        (lambda m: edit(m.encoder, "layers.0.{mixer.q,ffn.up}", edits("vera")), "say dim_in=32, dim_out=48"),
        (lambda m: edit(m.encoder, "embedding.table", edits("ia3")), "does not edit a table"),
        (lambda m: edit(m.encoder, "embedding.table", edits("dora")), "axis 1 in layers and 0 in tables"),
        (lambda m: graft(m.encoder, "layers.0.mixer.core", grafts("p_tuning")), "one graft at every"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(prepare, says, tmp_path):
    theirs, config = base()
    model = model_of(theirs, config)
    prepare(model)
    with pytest.raises(ValueError, match=says):
        ours_of.write(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_masked_lm_head_stays_with_the_base(tmp_path):
    theirs, config = base("BertForMaskedLM")
    fresh, _ = base("BertForMaskedLM")
    model = model_of(theirs, config)
    lora(model)
    wake(model.encoder, ".edits.")
    with pytest.raises(ValueError, match="say head=False"):
        ours_of.write(model, tmp_path)
    ours_of.write(model, tmp_path, head=False)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path).eval()
    torch.testing.assert_close(*logits(again, model), **CLOSE)
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text())["auto_mapping"]["base_model_class"]
        == "BertForMaskedLM"
    )


@pytest.mark.parametrize("kind", ["p_tuning", "prompt"])
def test_what_stands_before_texts_leaves_a_masked_lm_head_behind(kind, tmp_path):
    """peft puts nothing before the texts of a class that has no task_type."""
    theirs, config = base("BertForMaskedLM")
    model = model_of(theirs, config)
    spec = grafts(kind, length=PROMPT)
    graft(model.encoder, spec.slot.load(kind).where, spec)
    ours_of.write(model, tmp_path, head=False)
    again = peft.PeftModel.from_pretrained(theirs.bert, tmp_path).eval()
    torch.testing.assert_close(*outputs(again, model, kind), **CLOSE)


# ---- the methods themselves


def test_dora_trains_the_length_of_a_row_apart_from_its_direction():
    layer = build_layer(edits("dora", rank=2, alpha=6.0))
    one = layer.edits["dora"]
    assert torch.equal(layer.edited()[0], layer.weight)
    wake(layer, "edits.")
    weight, a, b, m = (x.detach().numpy() for x in (layer.weight, one.a, one.b, one.m))
    moved = weight + 6.0 / 2 * b @ a
    want = m[:, None] * moved / np.sqrt((moved**2).sum(1, keepdims=True))
    np.testing.assert_allclose(layer.edited()[0].detach().numpy(), want, rtol=1e-5)
    torch.testing.assert_close(layer.edited()[0].norm(dim=1), one.m.abs())
    # only the direction and not the length passes a gradient to A and B: theirs is as if the norm were a number
    layer.edited()[0].square().sum().backward()
    grad = 2 * want * m[:, None] / np.sqrt((moved**2).sum(1, keepdims=True))
    np.testing.assert_allclose(one.b.grad.numpy(), 3.0 * grad @ a.T, rtol=1e-4)
    rows = build_layer(edits("dora", axis=0))
    assert rows.edits["dora"].m.shape == (5,)
    with torch.no_grad():
        rows.weight[0] = 0  # padding's row
    still = type(rows.edits["dora"])(rows.weight)
    assert torch.equal(still(rows.weight, None)[0], rows.weight)


def build_layer(spec):
    layer = Linear(5, 4)
    wake(layer)
    layer.edits[spec.kind] = spec.build(layer.weight)
    return layer


def test_ia3_is_a_factor_of_what_a_layer_gives_or_reads():
    x = torch.linspace(-1, 1, 5)
    for axis in (0, 1):
        layer = build_layer(edits("ia3", axis=axis))
        plain = layer(x)
        assert torch.equal(plain, x @ layer.weight.T + layer.bias)
        wake(layer, "edits.")
        scale = layer.edits["ia3"].scale
        want = scale * plain if axis == 0 else (scale * x) @ layer.weight.T + layer.bias
        torch.testing.assert_close(layer(x), want)
    with pytest.raises(ValueError, match="axis is 0 .* or 1 .*, not 2"):
        edits("ia3", axis=2).build(layer.weight)


def test_vera_trains_two_vectors_on_one_pair_for_all():
    encoder = build(encoder_spec())
    edit(encoder, "**.mixer.[qv]", edits("vera", rank=6, seed=9))
    edit(encoder, "layers.*.ffn.up", edits("vera", rank=6, seed=9, dim_in=16, dim_out=24), "up")
    q, v, up = encoder.layers[0].mixer.q, encoder.layers[1].mixer.v, encoder.layers[0].ffn.up
    one, other = q.edits["vera"], v.edits["vera"]
    assert one.frozen_a.data_ptr() == other.frozen_a.data_ptr() and one.frozen_b.data_ptr() == other.frozen_b.data_ptr()
    new = [p for n, p in encoder.named_parameters() if ".edits." in n]
    # section 3.2: the layers' number times (outputs + rank)
    assert sum(p.numel() for p in new) == 4 * (16 + 6) + 2 * (24 + 6)
    assert not [k for k in tensors(encoder) if "frozen" in k]
    wake(encoder, ".edits.")
    for host, name, sizes in ((q, "vera", (16, 16)), (up, "up", (16, 24))):
        a, b = pair(9, 6, *sizes)
        d, scale = (x.detach() for x in (host.edits[name].d, host.edits[name].b))
        want = host.weight + torch.diag(scale) @ b @ torch.diag(d) @ a
        torch.testing.assert_close(host.edited()[0], want, **CLOSE)
    assert not torch.equal(pair(9, 6, 16, 16)[0], pair(8, 6, 16, 16)[0])
    a, b = pair(0, 64, 500, 400)  # Kaiming: variance 2 / what is read
    assert abs(a.var() * 500 / 2 - 1) < 0.03 and abs(b.var() * 64 / 2 - 1) < 0.03
    with pytest.raises(ValueError, match="too small for a weight that has 16 inputs and 24 outputs"):
        edits("vera", dim_out=16).build(up.weight)


PLACES = {
    "learned": {},
    "rope": {"blocks.*.mixer.position": {"kind": "position/rope"}, "embedding.position": {"kind": "position/none"}},
    "t5": {"blocks.*.mixer.position": {"kind": "position/t5_buckets"}, "embedding.position": {"kind": "position/none"}},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_prompt_of_words_is_the_words_before_the_text(place):
    """With rows of the token table in it, it is what these words would be, in front of every document of a packed row."""
    spec = encoder_spec()
    for path, plain in PLACES[place].items():
        spec = spec.replace(path, Spec.from_dict(plain))
    encoder, words = build(spec), torch.tensor([7, 30, 9])
    docs = documents()
    longer = [torch.cat([words, d]) for d in docs]
    want = encoder(*typeless(padded(longer)))
    graft(encoder, "{,embedding.table}", grafts("prompt", length=3))
    table = encoder.embedding.table
    with torch.no_grad():
        table.grafts["prompt"].vectors.copy_(table.weight[words])
    for batch in (padded(docs), padded(docs, 14), packed(docs, [[0, 1], [2]], 17)):
        token, layout = typeless(batch)
        got = encoder(token, layout)
        assert got.shape == (*token.shape, encoder.dim)
        mine = [want[i, 3 : 3 + len(d)] for i, d in enumerate(docs)]
        torch.testing.assert_close(states(got, layout), torch.cat(mine), **CLOSE)
    ungraft(encoder, "prompt")
    torch.testing.assert_close(encoder(*typeless(padded(longer))), want)


EVERY = {m.name: importlib.import_module(f"families.{m.name}") for m in pkgutil.iter_modules(families.__path__)}


@pytest.mark.parametrize("name", EVERY)
def test_every_family_has_prompts(name):
    case = next(c for c in EVERY[name].CASES if c.stock.endswith("Model"))
    config = getattr(transformers, case.config)(**(case.sizes | case.fields)).to_dict()
    encoder = build(hf.family_of(config).spec(config | {"architectures": [case.stock]}))
    words, docs = torch.tensor([7, 30, 9]), documents((8, 5))
    with torch.no_grad():
        want = encoder(*typeless(padded([torch.cat([words, d]) for d in docs])))
        graft(encoder, "{,embedding.table}", grafts("prompt", length=3))
        encoder.embedding.table.grafts["prompt"].vectors.copy_(encoder.embedding.table.weight[words])
        token, layout = typeless(padded(docs))
        got = states(encoder(token, layout), layout)
    torch.testing.assert_close(got, torch.cat([want[i, 3 : 3 + len(d)] for i, d in enumerate(docs)]), **CLOSE)


def typeless(batch):
    token, layout = batch
    return token, replace(layout, type_BT=None)


def test_two_prompts_stand_in_the_order_in_which_they_came():
    encoder, docs = build(encoder_spec()), documents()
    first, second = torch.tensor([7, 30]), torch.tensor([9, 11, 12])
    want = encoder(*typeless(padded([torch.cat([first, second, d]) for d in docs])))
    for name, words in (("first", first), ("second", second)):
        graft(encoder, "{,embedding.table}", grafts("prompt", length=len(words)), name)
        with torch.no_grad():
            table = encoder.embedding.table
            table.grafts[name].vectors.copy_(table.weight[words])
    token, layout = typeless(padded(docs))
    torch.testing.assert_close(encoder(token, layout)[0], want[0, 5:], **CLOSE)


def test_a_prompt_starts_at_words():
    encoder = build(encoder_spec())
    for init in ("tokens", "normal"):
        graft(encoder, "{,embedding.table}", grafts("prompt", length=3, init=init), init)
    table = encoder.embedding.table
    assert all((v == table.weight).all(1).any() for v in table.grafts["tokens"].vectors)
    assert not any((v == table.weight).all(1).any() for v in table.grafts["normal"].vectors)
    with pytest.raises(ValueError, match="hangs at the encoder and its token table"):
        graft(encoder, "layers.0.ffn", grafts("prompt"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompt", "p_tuning"])
def test_a_prompt_is_compiled_whole(kind):
    encoder, (token, layout) = build(encoder_spec().replace("depth", 1)), typeless(padded(documents()))
    spec = grafts(kind, length=3)
    graft(encoder, spec.slot.load(kind).where, spec)
    torch._dynamo.reset()
    run = torch.compile(lambda t, k: encoder(t, Layout.padded(k)), fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(run(token, layout.real_BT.long()), encoder(token, layout), **CLOSE)


def test_p_tuning_is_a_prefix_and_tokens_that_stand_behind_it():
    one, two = build(encoder_spec()), build(encoder_spec())
    graft(one, "{layers.*.mixer.core,embedding}", grafts("p_tuning", length=3))
    graft(two, "layers.*.mixer.core", grafts("prefix", length=3))
    with torch.no_grad():
        for i in (0, 1):
            a, b = one.layers[i].mixer.core.grafts["p_tuning"].prefix, two.layers[i].mixer.core.grafts["prefix"]
            b.k.copy_(a.k), b.v.copy_(a.v)
    token, layout = padded(documents())
    moved = replace(layout, position_BT=layout.position_BT + 3)
    torch.testing.assert_close(one(token, layout), two(token, moved))
    assert not torch.allclose(one(token, layout), two(token, layout), atol=1e-2)


def test_a_prompt_and_a_prefix_leave_less_room_in_a_table_of_places(tmp_path):
    theirs, config = base()
    for name in ("prefix", "prompt"):
        model = model_of(theirs, config)
        trained(base()[0], METHODS[name]()).save_pretrained(tmp_path / name)
        ours_of.read(tmp_path / name, model)
        assert model.max_length == 40 - PROMPT
        assert model.encode(["w1 " * 60]).shape == (1, 32)
    ours_of.read(tmp_path / "prefix", model)
    assert model.max_length == 40 - 2 * PROMPT
    assert model.encode(["w1 " * 60]).shape == (1, 32)
