"""LoRA, prefix tuning and BitFit equal to `peft` on the same weights; and each through the loop, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import documents, padded, wake

from bertsmith.edit import edit as edits
from bertsmith.graft import graft as grafts
from bertsmith.hf import bert
from bertsmith.linear import bake, edit, graft, load_tensors
from bertsmith.select import select as selects

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order
DEPTH, DIM, HEADS, PREFIX = 3, 32, 4, 5


def pair():
    """(transformers' BertModel, our encoder) with the same random weights, biases and norms away from 0 and 1."""
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=48,
        max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager")  # fmt: skip
    theirs = wake(transformers.BertModel(config, add_pooling_layer=False).eval())
    spec, _, held = bert.read(config.to_dict(), theirs.state_dict())
    ours = spec.build().eval()
    load_tensors(ours, {k.removeprefix("encoder."): v for k, v in held.items()})
    return theirs, ours


def batch():
    token, layout = padded(documents((11, 7, 9)))
    return token, layout, {"input_ids": token, "attention_mask": layout.real_BT.long(), "token_type_ids": layout.type_BT}


def backward(x, y, real):
    """The same loss of both, through real tokens only."""
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) * real[..., None]
    (x * weight).sum().backward()
    (y * weight).sum().backward()


@pytest.mark.parametrize("init", ["kaiming", "gaussian"])
def test_lora_is_pefts(init):
    theirs, ours = pair()
    more = {"init_lora_weights": "gaussian"} if init == "gaussian" else {}
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["query", "value", "word_embeddings"], **more)
    wrapped = peft.get_peft_model(theirs, config).eval()
    spec = edits("lora", rank=4, alpha=12.0, init=init)
    edit(ours, "layers.*.mixer.[qv]", spec)
    edit(ours, "embedding.table", spec)
    hosts = []
    for i, layer in enumerate(ours.layers):
        reference = theirs.encoder.layer[i].attention.self
        hosts += [(layer.mixer.q, reference.query), (layer.mixer.v, reference.value)]
    start = {who: torch.cat([h.flatten() for h in who]).std() for who in (
        tuple(o.edits["lora"].a for o, _ in hosts), tuple(t.lora_A["default"].weight for _, t in hosts))}  # fmt: skip
    mine, reference = start.values()
    assert abs(mine / reference - 1) < 0.1 and not any(o.edits["lora"].b.any() for o, _ in hosts)
    wake(wrapped, "lora_")
    table, ours_table = theirs.embeddings.word_embeddings, ours.embedding.table.edits["lora"]
    with torch.no_grad():
        for o, t in hosts:
            o.edits["lora"].a.copy_(t.lora_A["default"].weight)
            o.edits["lora"].b.copy_(t.lora_B["default"].weight)
        ours_table.b.copy_(table.lora_embedding_A["default"].T)
        ours_table.a.copy_(table.lora_embedding_B["default"].T)
    token, layout, inputs = batch()
    x, y = ours(token, layout), wrapped(**inputs).last_hidden_state
    torch.testing.assert_close(x[layout.real_BT], y[layout.real_BT], **CLOSE)
    backward(x, y, layout.real_BT)
    for o, t in hosts:
        torch.testing.assert_close(o.edits["lora"].a.grad, t.lora_A["default"].weight.grad, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(o.edits["lora"].b.grad, t.lora_B["default"].weight.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours_table.b.grad, table.lora_embedding_A["default"].grad.T, rtol=1e-3, atol=1e-4)
    bake(ours)
    merged = wrapped.merge_and_unload()
    for i, layer in enumerate(ours.layers):
        torch.testing.assert_close(layer.mixer.q.weight, merged.encoder.layer[i].attention.self.query.weight)
    torch.testing.assert_close(ours.embedding.table.weight, merged.embeddings.word_embeddings.weight)


def test_prefix_is_pefts():
    theirs, ours = pair()
    config = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=PREFIX)
    wrapped = peft.get_peft_model(theirs, config).eval()
    graft(ours, "layers.*.mixer.core", grafts("prefix", length=PREFIX))
    table = wrapped.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        held = table.view(PREFIX, 2 * DEPTH, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
        for i, layer in enumerate(ours.layers):
            layer.mixer.core.grafts["prefix"].k.copy_(held[2 * i])
            layer.mixer.core.grafts["prefix"].v.copy_(held[2 * i + 1])
    token, layout, inputs = batch()
    # there, a prefix moves all positions up by its length
    x = ours(token, replace(layout, position_BT=layout.position_BT + PREFIX))
    y = wrapped(**inputs).last_hidden_state
    torch.testing.assert_close(x[layout.real_BT], y[layout.real_BT], **CLOSE)
    backward(x, y, layout.real_BT)
    got = [g for layer in ours.layers for g in (layer.mixer.core.grafts["prefix"].k, layer.mixer.core.grafts["prefix"].v)]
    got = torch.stack([p.grad for p in got]).permute(2, 0, 1, 3).reshape(PREFIX, -1)
    torch.testing.assert_close(got, table.grad, rtol=1e-3, atol=1e-4)


def test_bitfit_trains_what_peft_trains_with_bias_all():
    theirs, ours = pair()
    wrapped = peft.get_peft_model(theirs, peft.LoraConfig(r=1, target_modules=["query"], bias="all")).eval()
    token, layout, inputs = batch()
    x, y = ours(token, layout), wrapped(**inputs).last_hidden_state
    torch.testing.assert_close(x[layout.real_BT], y[layout.real_BT], **CLOSE)
    backward(x, y, layout.real_BT)
    grads = {n.removeprefix("base_model.model.").replace(".base_layer", ""): p.grad
             for n, p in wrapped.named_parameters() if p.requires_grad and "lora_" not in n}  # fmt: skip
    _, _, want = bert.read(theirs.config.to_dict(), grads)
    select = selects("bitfit").build()
    mine = {f"encoder.{n}": p for n, p in ours.named_parameters() if select(f"encoder.{n}", p)}
    assert mine.keys() == want.keys() and len(mine) == 1 + 8 * DEPTH
    for name, p in mine.items():
        torch.testing.assert_close(p.grad, want[name], rtol=1e-3, atol=1e-4)
