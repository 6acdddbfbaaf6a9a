"""ModernBERT: local between global attention, turned positions, gated units, pre-norm.  Warner et al. 2024, arXiv:2412.13663.

Global and local layers turn queries and keys with bases of their own. The first layer's attention has no norm: that of the
embedding has just been. Dropout of the attention's output has the rate of its weights.
"""

from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, each, fields, layer_rows
from bertsmith.hf.fields import ACT, NUMBER, SHAPE, TIED, Field, altered, at, config_of, spec_of
from bertsmith.hf.stocks import NO_HEAD, sequences, told
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
# the key of the base of positions in older configs, and what it is where a config is silent
_BASES = {_GLOBAL: ("global_rope_theta", 160000.0), _LOCAL: ("local_rope_theta", 10000.0)}
_LN, _MIXER = norm("layer"), mixer("attention", position=position("rope"))
_FIRST, _NEXT = residual("pre_after_first", norm=_LN), residual("pre", norm=_LN)
_BASE = fields.stack(_MIXER, ffn("glu", hidden=1152), _FIRST, _NEXT, first=_LN, last=_LN)
_NORMS = ("norm", "embedding.norm", "blocks.0.residual.norm", "blocks.0.ffn_residual.norm")
_FIELDS = [
    *SHAPE,
    at("hidden_activation", "blocks.0.ffn.act", usual="gelu", turn=ACT),
    at("norm_eps", *(f"{path}.eps" for path in _NORMS), usual=1e-5),
    at("norm_bias", *(f"{path}.bias" for path in _NORMS), usual=False),
    at("attention_bias", "blocks.0.mixer.bias", "blocks.0.mixer.out_bias", usual=False),
    at("attention_dropout", "blocks.0.mixer.dropout", "blocks.0.residual.dropout", usual=0.0),
    at("embedding_dropout", "embedding.dropout", usual=0.0),
    at("mlp_bias", "blocks.0.ffn.bias", "blocks.0.ffn.out_bias", usual=False),
    at("mlp_dropout", "blocks.0.ffn.dropout", usual=0.0),
]


def _kinds(config: Config) -> list[str]:
    """The kinds of layers, as short a pattern as repeats. Raises ValueError for a kind that we do not have, or too few."""
    depth, every = config["num_hidden_layers"], config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [_LOCAL if i % every else _GLOBAL for i in range(depth)]
    if len(kinds) < depth:
        raise ValueError(f"layer_types names {len(kinds)} layers, and num_hidden_layers says {depth}")
    if odd := set(kinds) - {_GLOBAL, _LOCAL}:
        raise ValueError(f"layer_types {sorted(odd)} are not supported for ModernBERT; there are: {_GLOBAL}, {_LOCAL}")
    period = next(n for n in range(1, depth + 1) if all(kinds[i] == kinds[i % n] for i in range(depth)))
    return kinds[:period]


def _spec(config: Config) -> Spec:
    """Layers of a kind are alike but for how far they see and the base of their positions."""
    fields.tied(config, "ModernBERT")
    fields.refuse(bool(config.get("rope_scaling")), config, "rope_scaling", " for ModernBERT")
    made, layers = spec_of(_BASE, _FIELDS, config), {}
    for kind, (older, usual) in _BASES.items():
        said = (config.get("rope_parameters") or {}).get(kind) or {}
        base = fields.rope_base(said, config.get(older, usual), f" of {kind}")
        window = config.get("local_attention", 128) if kind == _LOCAL else 0
        layers[kind] = altered(made.get("blocks.0"), {"mixer.window": window, "mixer.position.base": base})
    return made.replace("blocks", [layers[kind] for kind in _kinds(config)])


def _config(spec: Spec) -> Config:
    mixers = [one.get("mixer") for one in spec.get("blocks")]
    kinds = [_LOCAL if one.get("window") else _GLOBAL for one in mixers]
    turned = [{"rope_type": "default", "rope_theta": one.get("position.base")} for one in mixers]
    layers: Config = {
        "layer_types": [kinds[i % len(kinds)] for i in range(spec.get("depth"))],
        "local_attention": max(one.get("window") for one in mixers) or 128,
        "rope_parameters": dict(zip(kinds, turned, strict=True)),
    }
    return config_of(_FIELDS, spec) | layers | TIED


def modernbert_encoder(depth: int, dim: int, heads: int, hidden: int, vocab: int, attention_dropout: float) -> Spec:
    """A ModernBERT encoder of any shape: a global layer, then two local ones, and so on."""
    sizes = dict(zip((field.key for field in SHAPE), (vocab, dim, depth, heads, hidden), strict=True))
    return _spec(sizes | {"attention_dropout": attention_dropout})


_ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embeddings.tok_embeddings.weight"),
    *each("encoder.", "", {"embedding.norm": "embeddings.norm", "norm": "final_norm"}),
    *layer_rows("layers.{i}.", "attn.Wqkv attn.Wqkv attn.Wqkv attn.Wo attn_norm", "mlp.Wi mlp.Wi mlp.Wo mlp_norm"),
]


def _class(base: Spec, where: str, rows: list[Row], *own: Field) -> Stock:
    """All its heads have a layer, an activation and a norm before the logits; `where` they stand in ours."""
    between = [
        at("classifier_activation", where + "act", usual="gelu", turn=ACT),
        at("classifier_bias", where + "bias", usual=False),
        at("norm_eps", where + "norm.eps", usual=1e-5),
        at("norm_bias", where + "norm.bias", usual=False),
    ]
    return told(base, [*each(f"head.{where}", "head.", {"dense": "dense", "norm": "norm"}), *rows], [*between, *own])


_DENSE, _OUT = ffn("dense", norm=_LN), both("head.out", "classifier")
_DROPOUT = at("classifier_dropout", "dropout", usual=0.0, turn=NUMBER)
_POOLS = fields.named({"cls": pools("first"), "mean": pools("mean")}, "mean")
_POOL = at("classifier_pooling", "pool.pool", usual="cls", turn=_POOLS)
_POOLED = heads("linear", pool=pools("transformed", transform=_DENSE))
_DECODER = at("decoder_bias", "out_bias", usual=True)
FAMILY = Family(
    types={"modernbert": "ModernBert"},
    prefix="model.",
    spec=_spec,
    config=_config,
    rows=lambda config: _ROWS,
    stocks={
        "Model": NO_HEAD,
        "ForMaskedLM": _class(heads("masked_lm", norm=_LN), "", [("head.bias", "decoder.bias")], _DECODER),
        **sequences(_class(_POOLED, "pool.transform.", _OUT, _DROPOUT, _POOL)),
        "ForTokenClassification": _class(heads("token", transform=_DENSE), "transform.", _OUT, _DROPOUT),
        "ForQuestionAnswering": _class(heads("span", transform=_DENSE), "transform.", _OUT, _DROPOUT),
    },
    unused=("decoder.weight", "rotary_emb"),
)
