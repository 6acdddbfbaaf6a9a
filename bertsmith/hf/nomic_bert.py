"""Nomic BERT: BERT with turned positions and gated units, without most biases.  Nussbaum et al. 2024, arXiv:2402.01613."""

from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, act_of, both
from bertsmith.hf.bert import bert_encoder
from bertsmith.hf.fields import ACT, SHAPE, TIED, at, config_of, head_dim, rope, spec_of, tied
from bertsmith.hf.stocks import bert_stocks, lm_norm, lm_rows, without
from bertsmith.mixer import mixer
from bertsmith.position import position
from bertsmith.spec import Spec

_BASE = (
    bert_encoder(depth=12, dim=768, heads=12, vocab=30528)
    .replace("embedding.position", position("none"))
    .replace("blocks.0.mixer", mixer("attention", position=position("rope"), bias=False, out_bias=False))
    .replace("blocks.0.ffn", ffn("glu", hidden=3072))
)

_FIELDS = [
    *SHAPE,
    at("hidden_act", "blocks.0.ffn.act", usual="silu", turn=ACT),
    at("hidden_dropout_prob", "embedding.dropout", "blocks.0.residual.dropout", usual=0.0),
    at("attention_probs_dropout_prob", "blocks.0.mixer.dropout", usual=0.0),
    at("type_vocab_size", "embedding.types", usual=2),
    at("layer_norm_eps", "embedding.norm.eps", "blocks.0.residual.norm.eps", usual=1e-12),
    head_dim(),
    rope(1000.0),
]


def _spec(config: Config) -> Spec:
    """Raises ValueError naming what we do not have."""
    tied(config, "Nomic BERT")
    return spec_of(_BASE, _FIELDS, config)


def _lm(config: Config) -> Spec:
    return heads("masked_lm", norm=lm_norm(config), act=act_of(config.get("hidden_act", "silu")))


_L, _H, _C = "encoder.layers.{i}.", "encoder.layers.{i}.", "cls.predictions."
# the names in files; the reference's parameters have others once they are loaded
_ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embeddings.word_embeddings.weight"),
    ("encoder.embedding.types.weight", "embeddings.token_type_embeddings.weight"),
    *both("encoder.embedding.norm", "emb_ln"),
    ((_L + "mixer.q.weight", _L + "mixer.k.weight", _L + "mixer.v.weight"), _H + "attn.Wqkv.weight"),
    (_L + "mixer.out.weight", _H + "attn.out_proj.weight"),
    *both(_L + "mixer_residual.norm", _H + "norm1"),
    (_L + "ffn.gate.weight", _H + "mlp.fc12.weight"),
    (_L + "ffn.up.weight", _H + "mlp.fc11.weight"),
    (_L + "ffn.down.weight", _H + "mlp.fc2.weight"),
    *both(_L + "ffn_residual.norm", _H + "norm2"),
]

FAMILY = Family(
    types={"nomic_bert": "NomicBert"},
    prefix="nomic_bert.",
    spec=_spec,
    config=lambda spec: config_of(_FIELDS, spec) | TIED,
    rows=lambda config: _ROWS,
    stocks=without(bert_stocks("nomic_bert."), "ForPreTraining ForMultipleChoice ForQuestionAnswering")
    | {
        "Model": Stock(lambda config: None),
        "ForMaskedLM": Stock(_lm, lm_rows("head", _C + "transform.dense", _C + "transform.layer_norm", _C + "bias")),
    },
    unused=("position_ids", "inv_freq", _C + "decoder."),
)
