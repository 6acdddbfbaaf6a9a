"""EuroBERT: RMS pre-norm, turned positions, gated units, shared keys and values.  Boizard et al. 2025, arXiv:2503.05500.

Its masked-LM head is one linear layer, with a table of its own unless `tie_word_embeddings`. Its classifiers pool before the
layer between ("bos", "mean") or after it ("late").
"""

from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, both, fields, layer_rows
from bertsmith.hf.fields import ACT, BIASES, SHAPE, TIED, TURNED, Field, at, config_of, head_dim, named, rope, spec_of
from bertsmith.hf.stocks import NO_HEAD, tokens, told
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec

_BETWEEN, _KV = ffn("dense"), "blocks.0.mixer.kv_heads"
_POOLS = {
    "bos": pools("transformed", transform=_BETWEEN, pool=pools("first")),
    "mean": pools("transformed", transform=_BETWEEN, pool=pools("mean")),
    "late": pools("late", transform=_BETWEEN),
}
_BASE = fields.pre_norm(TURNED, ffn("glu", hidden=3072), norm("rms"))


def _shared(config: Config) -> int:
    """Heads of keys and values, 0 where they are as many as those of queries."""
    count = config.get("num_key_value_heads")
    return 0 if count in (None, config["num_attention_heads"]) else count


_FIELDS = [
    *SHAPE,
    Field("num_key_value_heads", (_KV,), _shared, lambda spec: spec.get(_KV) or spec.get("heads")),
    head_dim(),
    at("hidden_act", "blocks.0.ffn.act", usual="silu", turn=ACT),
    at("rms_norm_eps", "norm.eps", "blocks.0.residual.norm.eps", usual=1e-5),
    rope(10000.0),
    *BIASES,
    at("attention_dropout", "blocks.0.mixer.dropout", usual=0.0),
]


def _spec(config: Config) -> Spec:
    """Raises ValueError naming what we do not have."""
    fields.known("classifier_pooling", [config.get("classifier_pooling", "late")], _POOLS, " for EuroBERT")
    return spec_of(_BASE, _FIELDS, config)


_ATTENTION = "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj input_layernorm"
_FFN = "mlp.gate_proj mlp.up_proj mlp.down_proj post_attention_layernorm"
_ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embed_tokens.weight"),
    *layer_rows("layers.{i}.", _ATTENTION, _FFN),
    ("encoder.norm.weight", "norm.weight"),
]

FAMILY = Family(
    types={"eurobert": "EuroBert"},
    prefix="model.",
    spec=_spec,
    config=lambda spec: config_of(_FIELDS, spec) | TIED | {"tie_word_embeddings": False},
    rows=lambda config: _ROWS,
    stocks={
        "Model": NO_HEAD,
        "ForMaskedLM": told(
            heads("lm_linear"),
            [("head.table.weight", "lm_head.weight"), ("head.bias", "lm_head.bias")],
            [at("tie_word_embeddings", "tied", usual=False), at("mlp_bias", "bias", usual=False)],
        ),
        "ForSequenceClassification": told(
            heads("linear", pool=_POOLS["late"], dropout=0.0),
            [*both("head.pool.transform.dense", "dense"), *both("head.out", "classifier")],
            [at("classifier_pooling", "pool", usual="late", turn=named(_POOLS, "late"))],
        ),
        "ForTokenClassification": tokens(lambda config: 0.0),
    },
)
