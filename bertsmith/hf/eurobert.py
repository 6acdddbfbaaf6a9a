"""EuroBERT: RMS pre-norm, turned positions, gated units, shared keys and values.  Boizard et al. 2025, arXiv:2503.05500.

Its masked-LM head is one linear layer, with a table of its own unless `tie_word_embeddings`. Its classifiers pool before the
layer between ("bos", "mean") or after it ("late").
"""

from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, both, layer_rows
from bertsmith.hf.fields import ACT, SHAPE, TIED, Field, at, config_of, head_dim, named, rope, spec_of, stack
from bertsmith.hf.stocks import NO_HEAD, tokens, told
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

_BETWEEN, _KV = ffn("dense"), "blocks.0.mixer.kv_heads"
_POOLS = {
    "bos": pools("transformed", transform=_BETWEEN, pool=pools("first")),
    "mean": pools("transformed", transform=_BETWEEN, pool=pools("mean")),
    "late": pools("late", transform=_BETWEEN),
}
_RMS = norm("rms")
_MIXER, _PRE = mixer("attention", position=position("rope")), residual("pre", norm=_RMS)
_BASE = stack(_MIXER, ffn("glu", hidden=3072), _PRE, None, first=norm("none"), last=_RMS)


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
    at("attention_bias", "blocks.0.mixer.bias", "blocks.0.mixer.out_bias", usual=False),
    at("attention_dropout", "blocks.0.mixer.dropout", usual=0.0),
    at("mlp_bias", "blocks.0.ffn.bias", "blocks.0.ffn.out_bias", usual=False),
]


def _spec(config: Config) -> Spec:
    """Raises ValueError naming what we do not have."""
    if (pooling := config.get("classifier_pooling", "late")) not in _POOLS:
        raise ValueError(
            f"classifier_pooling {pooling!r} is not supported for EuroBERT; there are: {', '.join(_POOLS)}"
        )
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
