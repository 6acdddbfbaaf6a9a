"""Recipes of bertsmith/recipes/modern.py in their published sizes: parameters of the reference's class, or of the paper.

No memory is taken: all lies on the meta device.
"""

import json

import pytest
import torch

from bertsmith.methods import all_recipes
from bertsmith.model import Bundle


def count(model):
    return sum(p.numel() for p in model.parameters())


def made(recipe, vocab, folder):
    """(encoder, bundle of encoder and head) of a recipe, on the meta device."""
    special = {name: i for i, name in enumerate(("pad", "unk", "cls", "sep", "mask"))}
    (folder / "manifest.json").write_text(json.dumps({"vocabulary": vocab, "special": special}))
    run = all_recipes()[recipe](folder)
    with torch.device("meta"):
        encoder = run.encoder.build()
        return encoder, Bundle(encoder, run.stages[-1].objective.build(encoder).head)


LARGE = {"num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 2624}


@pytest.mark.parametrize("recipe,fields,millions", [("modernbert_base", {}, 149), ("modernbert_large", LARGE, 395)])
def test_modernbert_is_as_large_as_its_class(recipe, fields, millions, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ModernBertConfig(**fields)
    with torch.device("meta"):
        model = transformers.ModernBertForMaskedLM(config)
    encoder, bundle = made(recipe, config.vocab_size, tmp_path)
    assert count(bundle) == count(model)
    assert round(count(encoder) / 1e6) == millions


# (recipe, vocabulary, millions with the head: what the paper or its model card says, in its precision)
PUBLISHED = [
    ("mosaicbert_base", 30522, 1, 137),
    ("neobert", 30522, 10, 250),
    ("ltg_bert_base", 16384, 1, 98),
]


@pytest.mark.parametrize("recipe,vocab,precision,millions", PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_published_sizes(recipe, vocab, precision, millions, tmp_path):
    _, bundle = made(recipe, vocab, tmp_path)
    assert round(count(bundle) / 1e6 / precision) * precision == millions


def test_mosaicbert_rounds_its_vocabulary_up_to_a_multiple_of_64(tmp_path):
    encoder, _ = made("mosaicbert_base", 30522, tmp_path)
    assert encoder.embedding.table.weight.shape == (30528, 768)


def test_neobert_has_222_million_without_the_table_of_its_head(tmp_path):
    """What its released encoder holds."""
    encoder, bundle = made("neobert", 30522, tmp_path)
    assert round(count(encoder) / 1e6, 1) == 221.7 and count(bundle) - count(encoder) == 30522 * 769


def test_crammed_bert_is_the_sum_of_its_config(tmp_path):
    """crammed-bert.yaml: 16 layers, 768 wide, 3072 before the gate and 1536 after it, no biases but in norms, tied."""
    _, bundle = made("cramming", 32768, tmp_path)
    layer = 4 * 768**2 + 768 * 3072 + 1536 * 768 + 2 * 2 * 768
    assert count(bundle) == 32768 * 768 + 1 + 2 * 768 + 16 * layer + 2 * 768


def test_ltg_bert_is_the_sum_of_its_config_and_a_row_that_is_never_read(tmp_path):
    """base.json: 12 layers, 768 wide, 2048 gated, 32 buckets (63 rows), 16384 tokens; our table of places has 64 rows."""
    _, bundle = made("ltg_bert_base", 16384, tmp_path)
    layer = 4 * (768**2 + 768) + 2 * 768 + 3 * 768 * 2048
    head = 768**2 + 768 + 16384
    assert count(bundle) == 16384 * 768 + (63 + 1) * 768 + 2 * 768 + 12 * layer + head


def test_a_gate_of_two_thirds_keeps_the_size_of_bert(tmp_path):
    """The gate has one bias vector more of its own; positions, 512 rows, are gone, and a last norm has come."""
    ours, bert = (made(name, 30522, tmp_path)[1] for name in ("bert_base__rope__glu__pre", "bert_base"))
    assert count(ours) - count(bert) == 12 * (2 * 2048 - 3072) - 512 * 768 + 2 * 768
