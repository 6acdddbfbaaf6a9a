"""T5's encoder: pre-norm RMS without biases, scores that are not scaled, and one table of distance buckets for all layers.

Raffel et al. 2019, arXiv:1910.10683; mT5, Xue et al. 2020, arXiv:2010.11934; UMT5, Chung et al. 2023, arXiv:2304.09151, where
each layer has a table of its own. The decoder is not opened, nor are the classes that have one (those for sequences and for
questions among them): save the encoder alone (`T5EncoderModel`).
"""

from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, act_back, act_of, both
from bertsmith.hf.fields import TIED, at, config_of, pre_norm, shape, spec_of
from bertsmith.hf.stocks import DROPOUT, NO_HEAD, told
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.position import position
from bertsmith.spec import Spec

GATED_GELU = "gated-gelu"  # theirs for a gate with the tanh form of GELU


def _gate(config: Config) -> tuple[str, str]:
    """(kind of ffn, activation) of `feed_forward_proj`: "relu", "gated-silu"."""
    said = config.get("feed_forward_proj", "relu")
    first, _, act = said.rpartition("-")
    if first not in ("", "gated"):
        raise ValueError(f"feed_forward_proj {said!r} is not supported; say an activation, or gated- and one")
    return ("glu" if first else "mlp"), act_of("gelu_new" if said == GATED_GELU else act)


_MIXER = mixer("attention", position=position("t5_buckets"), bias=False, out_bias=False, scale=1.0)
_BASE = pre_norm(_MIXER, ffn("mlp", hidden=2048), norm("rms"))
_DROPS = ["embedding", *(f"blocks.0.{part}" for part in ("mixer", "ffn", "residual"))]
_FIELDS = [
    *shape("vocab_size d_model num_layers num_heads d_ff"),
    at("d_kv", "blocks.0.mixer.head_dim"),
    at("relative_attention_num_buckets", "blocks.0.mixer.position.buckets", usual=32),
    at("relative_attention_max_distance", "blocks.0.mixer.position.far", usual=128),
    at("dropout_rate", *(f"{part}.dropout" for part in _DROPS), "dropout", usual=0.1),
    at("layer_norm_epsilon", "norm.eps", "blocks.0.residual.norm.eps", usual=1e-6),
]


def encoder_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    if config.get("is_decoder", False):
        raise ValueError("is_decoder True is not supported: an encoder reads in both directions")
    kind, act = _gate(config)
    base = _BASE.replace("share", [] if config.get("model_type") == "umt5" else ["**.mixer.position"])
    return spec_of(base.replace("blocks.0.ffn", ffn(kind, hidden=2048, act=act, bias=False)), _FIELDS, config)


def encoder_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    act, gated = act_back(spec.get("blocks.0.ffn.act")), spec.get("blocks.0.ffn").kind == "glu"
    said = (GATED_GELU if act == "gelu_new" else f"gated-{act}") if gated else act
    gate = {"feed_forward_proj": said, "dense_act_fn": act, "is_gated_act": gated}
    return config_of(_FIELDS, spec) | gate | {"is_encoder_decoder": False, "is_decoder": False} | TIED


def rows(config: Config) -> list[Row]:
    """The table of distances is the first layer's where all share it."""
    only = "{i}" if config.get("model_type") == "umt5" else "0"
    table = f"encoder.block.{only}.layer.0.SelfAttention.relative_attention_bias.weight"
    up = {"gate": "wi_0", "up": "wi_1"} if _gate(config)[0] == "glu" else {"up": "wi"}
    parts = {f"mixer.{name}": f"0.SelfAttention.{name[0]}" for name in ("q", "k", "v", "out")}
    parts |= {f"ffn.{ours}": f"1.DenseReluDense.{theirs}" for ours, theirs in (up | {"down": "wo"}).items()}
    parts |= {"mixer_residual.norm": "0.layer_norm", "ffn_residual.norm": "1.layer_norm"}
    return [
        ("encoder.embedding.table.weight", "shared.weight"),
        (f"encoder.layers.{only}.mixer.position.table.weight", table),
        *((f"encoder.layers.{{i}}.{a}.weight", f"encoder.block.{{i}}.layer.{b}.weight") for a, b in parts.items()),
        ("encoder.norm.weight", "encoder.final_layer_norm.weight"),
    ]


FAMILY = Family(
    types={"t5": "T5", "mt5": "MT5", "umt5": "UMT5"},
    prefix="transformer.",
    spec=encoder_spec,
    config=encoder_config,
    rows=rows,
    stocks={
        "EncoderModel": NO_HEAD,
        "ForTokenClassification": told(heads("token"), both("head.out", "classifier"), [DROPOUT]),
    },
    unused=("encoder.embed_tokens.",),
)
