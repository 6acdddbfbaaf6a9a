"""EuroBERT: RMS pre-norm, turned positions, gated units, shared keys and values.  Boizard et al. 2025, arXiv:2503.05500.

Its masked-LM head is one linear layer, with a table of its own unless `tie_word_embeddings`. Its classifiers pool before the
layer between ("bos", "mean") or after it ("late").
"""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, act_back, act_of, both
from bertsmith.hf.nomic_bert import own_head_dim, rope_base
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

_POOLS = {"bos": "first", "mean": "mean"}


def _spec(config: Config) -> Spec:
    """Raises ValueError naming what we do not have."""
    if (pooling := config.get("classifier_pooling", "late")) not in (*_POOLS, "late"):
        raise ValueError(f"classifier_pooling {pooling!r} is not supported for EuroBERT; there are: bos, mean, late")
    rms, biased = norm("rms", eps=config.get("rms_norm_eps", 1e-5)), config.get("mlp_bias", False)
    count, shared = config["num_attention_heads"], config.get("num_key_value_heads")
    attention = mixer(
        "attention",
        position=position("rope", base=rope_base(config, 10000.0)),
        bias=config.get("attention_bias", False),
        out_bias=config.get("attention_bias", False),
        dropout=config.get("attention_dropout", 0.0),
        head_dim=own_head_dim(config),
        kv_heads=0 if shared in (None, count) else shared,
    )
    gated = ffn(
        "glu",
        hidden=config["intermediate_size"],
        act=act_of(config.get("hidden_act", "silu")),
        bias=biased,
        out_bias=biased,
    )
    return encoder(
        "stack",
        dim=config["hidden_size"],
        heads=count,
        depth=config["num_hidden_layers"],
        embedding=embedding("tokens", vocab=config["vocab_size"], position=position("none"), norm=norm("none")),
        blocks=[block("sequential", mixer=attention, ffn=gated, residual=residual("pre", norm=rms))],
        norm=rms,
    )


def _config(spec: Spec) -> Config:
    count, attention = spec.get("heads"), spec.get("blocks.0.mixer")
    return {
        "vocab_size": spec.get("embedding.vocab"),
        "hidden_size": spec.get("dim"),
        "intermediate_size": spec.get("blocks.0.ffn.hidden"),
        "num_hidden_layers": spec.get("depth"),
        "num_attention_heads": count,
        "num_key_value_heads": attention.get("kv_heads") or count,
        "head_dim": attention.get("head_dim") or spec.get("dim") // count,
        "hidden_act": act_back(spec.get("blocks.0.ffn.act")),
        "rms_norm_eps": spec.get("norm.eps"),
        "rope_parameters": {"rope_type": "default", "rope_theta": attention.get("position.base")},
        "attention_bias": attention.get("bias"),
        "attention_dropout": attention.get("dropout"),
        "mlp_bias": spec.get("blocks.0.ffn.bias"),
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }


def _lm(config: Config) -> Spec:
    return heads("lm_linear", tied=config.get("tie_word_embeddings", False), bias=config.get("mlp_bias", False))


def _sequence(config: Config) -> Spec:
    pooling, between = config.get("classifier_pooling", "late"), ffn("dense")
    if pooling == "late":
        return heads("linear", pool=pools("late", transform=between), dropout=0.0)
    return heads("linear", pool=pools("transformed", transform=between, pool=pools(_POOLS[pooling])), dropout=0.0)


def _sequence_config(head: Spec) -> Config:
    if head.get("pool").kind != "transformed":
        return {"classifier_pooling": "late"}
    inner = head.get("pool.pool")
    return {"classifier_pooling": next((k for k, v in _POOLS.items() if inner and v == inner.kind), "bos")}


_L, _H = "encoder.layers.{i}.", "layers.{i}."
_NAMES = [("mixer.q", "self_attn.q_proj"), ("mixer.k", "self_attn.k_proj"), ("mixer.v", "self_attn.v_proj"),
          ("mixer.out", "self_attn.o_proj"), ("ffn.gate", "mlp.gate_proj"), ("ffn.up", "mlp.up_proj"),
          ("ffn.down", "mlp.down_proj")]  # fmt: skip
_ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embed_tokens.weight"),
    *(row for ours, theirs in _NAMES for row in both(_L + ours, _H + theirs)),
    (_L + "mixer_residual.norm.weight", _H + "input_layernorm.weight"),
    (_L + "ffn_residual.norm.weight", _H + "post_attention_layernorm.weight"),
    ("encoder.norm.weight", "norm.weight"),
]

FAMILY = Family(
    types={"eurobert": "EuroBert"},
    prefix="model.",
    spec=_spec,
    config=_config,
    rows=lambda config: _ROWS,
    stocks={
        "Model": Stock(lambda config: None),
        "ForMaskedLM": Stock(
            _lm,
            [("head.table.weight", "lm_head.weight"), ("head.bias", "lm_head.bias")],
            lambda head: {"tie_word_embeddings": head.args["tied"]},
        ),
        "ForSequenceClassification": Stock(
            _sequence, [*both("head.pool.transform.dense", "dense"), *both("head.out", "classifier")], _sequence_config
        ),
        "ForTokenClassification": Stock(lambda config: heads("token", dropout=0.0), both("head.out", "classifier")),
    },
)
