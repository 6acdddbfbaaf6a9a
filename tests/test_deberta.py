"""DeBERTa beyond what every family is tested for: buckets, the enhanced mask decoder, and names of released checkpoints."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toy import DIM, HEADS, VOCAB, example, wake

from bertsmith import hf
from bertsmith.layout import Layout
from bertsmith.linear import load_tensors
from bertsmith.model import Bundle
from bertsmith.objective import objective
from bertsmith.position import position

transformers = pytest.importorskip("transformers")
reference = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, the same sums in another order

V3 = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "norm_rel_ebd": "layer_norm",
    "position_buckets": 8, "max_relative_positions": 16, "position_biased_input": False, "type_vocab_size": 0,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def saved(stock, folder, **fields):
    """A class of the reference at a tiny size; (it, our bundle, its config, our head) of what it saves."""
    torch.manual_seed(0)
    theirs = wake(getattr(transformers, stock)(transformers.DebertaV2Config(**V3 | fields)).eval())
    theirs.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    spec, head, held = hf.read(config, load_file(folder / "model.safetensors"))
    encoder = spec.build()
    bundle = Bundle(encoder, head.build(encoder, 0) if head else None)
    load_tensors(bundle, held)
    return theirs, bundle.eval(), config, held


@pytest.mark.parametrize("buckets,span", [(6, 12), (32, 128), (256, 512)])
def test_logarithmic_buckets_are_the_references(buckets, span):
    """At every distance, in float32: one that a rounding moves into the next bucket would read another row."""
    distance = torch.arange(-3 * span, 3 * span + 1)
    found = position("disentangled", span=span, buckets=buckets).build(DIM, HEADS, DIM // HEADS).bucket(distance)
    assert torch.equal(found, reference.make_log_bucket_position(distance, buckets, span).long())


def test_the_decoder_equals_the_references_layer_called_by_hand(tmp_path):
    """The reference's own path to it crashes, but its layer takes a query beside what it reads."""
    theirs, bundle, _, _ = saved("DebertaV2Model", tmp_path)
    emd = objective("enhanced_mask_decoder", masking=example("masking", "bert"), length=40).build(bundle.encoder)
    wake(emd.eval(), only="place")  # the head's table is the encoder's
    token = torch.randint(5, VOCAB, (2, 21), generator=torch.Generator().manual_seed(0))
    keep = (torch.arange(21) < torch.tensor([21, 13])[:, None]).long()
    inner, h = theirs.encoder, theirs(token, keep, output_hidden_states=True).hidden_states[-2]
    mask = inner.get_attention_mask(keep)
    q = h + emd.place.weight[torch.arange(21)]
    for _ in range(2):
        q = inner.layer[-1](
            h, mask, query_states=q, relative_pos=inner.get_rel_pos(h), rel_embeddings=inner.get_rel_embedding()
        )[0]
    found = emd.decode(bundle.encoder, token, Layout.padded(keep))
    torch.testing.assert_close(found[keep.bool()], q[keep.bool()], **CLOSE)


def test_the_released_name_of_the_masked_lm_head_opens_and_goes_back(tmp_path):
    """`legacy` false: the same head under another name."""
    theirs, bundle, config, held = saved("DebertaV2ForMaskedLM", tmp_path, legacy=False)
    token = torch.randint(5, VOCAB, (2, 21), generator=torch.Generator().manual_seed(0))
    layout = Layout.padded(torch.ones_like(token))
    torch.testing.assert_close(bundle.head(bundle.encoder(token, layout), layout), theirs(token).logits, **CLOSE)
    back = hf.write(config, held)
    assert "lm_predictions.lm_head.dense.weight" in back
    mine = theirs.state_dict()
    assert all(torch.equal(mine[k], v) for k, v in back.items())


def test_a_table_of_places_that_released_checkpoints_have_for_their_decoder_is_passed_over(tmp_path):
    _, _, config, _ = saved("DebertaV2Model", tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    more = {"deberta.embeddings.position_embeddings.weight": torch.zeros(40, 32)}
    assert hf.read(config, theirs | more)[2].keys() == hf.read(config, theirs)[2].keys()
    with pytest.raises(KeyError, match="no place here"):
        hf.read(config, theirs | {"deberta.encoder.surplus.weight": torch.zeros(2)})
