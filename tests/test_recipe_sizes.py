"""A recipe makes the model of its paper: as many parameters as the reference's class at the published config.

No memory is taken: all lies on the meta device.
"""

import json

import pytest
import torch

from bertsmith.methods import all_recipes
from bertsmith.model import Bundle

transformers = pytest.importorskip("transformers")


def shape(depth, dim, heads, **more):
    """The fields of a config that most families share."""
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    return dict(zip(names, (depth, dim, heads, 4 * dim), strict=True)) | more


BERT = {"vocab_size": 30522}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
ALBERT = {"vocab_size": 30000, "embedding_size": 128, "hidden_act": "gelu"}
DEBERTA = {
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}

# (recipe, class of `transformers` with the head that the recipe trains, fields of its config)
SIZES = [
    ("bert_tiny", "BertForMaskedLM", shape(2, 128, 2, **BERT)),
    ("bert_mini", "BertForMaskedLM", shape(4, 256, 4, **BERT)),
    ("bert_small", "BertForMaskedLM", shape(4, 512, 8, **BERT)),
    ("bert_medium", "BertForMaskedLM", shape(8, 512, 8, **BERT)),
    ("bert_base", "BertForMaskedLM", shape(12, 768, 12, **BERT)),
    ("bert_large", "BertForMaskedLM", shape(24, 1024, 16, **BERT)),
    ("roberta_base", "RobertaForMaskedLM", shape(12, 768, 12, **ROBERTA)),
    ("roberta_large", "RobertaForMaskedLM", shape(24, 1024, 16, **ROBERTA)),
    ("albert_base", "AlbertForMaskedLM", shape(12, 768, 12, **ALBERT)),
    ("albert_large", "AlbertForMaskedLM", shape(24, 1024, 16, **ALBERT)),
    ("albert_xlarge", "AlbertForMaskedLM", shape(24, 2048, 16, **ALBERT)),
    ("albert_xxlarge", "AlbertForMaskedLM", shape(12, 4096, 64, **ALBERT)),
    ("deberta_v3_xsmall", "DebertaV2ForMaskedLM", shape(12, 384, 6, **DEBERTA)),
    ("deberta_v3_small", "DebertaV2ForMaskedLM", shape(6, 768, 12, **DEBERTA)),
    ("deberta_v3_base", "DebertaV2ForMaskedLM", shape(12, 768, 12, **DEBERTA)),
    ("deberta_v3_large", "DebertaV2ForMaskedLM", shape(24, 1024, 16, **DEBERTA)),
]


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("recipe,stock,fields", SIZES, ids=[row[0] for row in SIZES])
def test_a_recipe_has_the_parameters_of_the_reference(recipe, stock, fields, tmp_path):
    config = getattr(transformers, stock).config_class(**fields)
    first = config.pad_token_id or 0
    special = {name: first + i for i, name in enumerate(("pad", "unk", "cls", "sep", "mask"))}
    (tmp_path / "manifest.json").write_text(json.dumps({"vocabulary": config.vocab_size, "special": special}))
    run = all_recipes()[recipe](tmp_path)
    with torch.device("meta"):
        encoder = run.encoder.build()
        ours = Bundle(encoder, run.stages[-1].objective.build(encoder).head)
        theirs = getattr(transformers, stock)(config)
    assert count(ours) == count(theirs)


def test_published_sizes_are_what_the_papers_say():
    """RoBERTa, table 9 and section 5: 125 million and 355 million, the head counted once with its table."""
    sizes = {}
    for recipe, stock, fields in SIZES:
        if recipe.startswith("roberta"):
            with torch.device("meta"):
                sizes[recipe] = count(getattr(transformers, stock)(getattr(transformers, stock).config_class(**fields)))
    assert {name: round(n / 1e6) for name, n in sizes.items()} == {"roberta_base": 125, "roberta_large": 355}
