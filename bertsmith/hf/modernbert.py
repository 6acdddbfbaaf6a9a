"""ModernBERT: local between global attention, turned positions, gated units, pre-norm.  Warner et al. 2024, arXiv:2412.13663.

Global and local layers turn queries and keys with bases of their own. The first layer's attention has no norm: that of the
embedding has just been. Dropout of the attention's output has the rate of its weights.
"""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, each
from bertsmith.hf.fields import ACT, NUMBER, SHAPE, TIED, Field, altered, at, config_of, named, spec_of, tied
from bertsmith.hf.stocks import NO_HEAD, as_choice, told
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_USUAL, _OLD = {_GLOBAL: 160000.0, _LOCAL: 10000.0}, {_GLOBAL: "global_rope_theta", _LOCAL: "local_rope_theta"}
_LN = norm("layer", eps=1e-5, bias=False)


def _blocks(layer: Spec, kinds: list[str], window: int, bases: dict[str, float]) -> list[Spec]:
    """A layer of each kind, alike but for how far it sees and the base of its positions."""
    own = {k: {"mixer.window": window if k == _LOCAL else 0, "mixer.position.base": bases[k]} for k in bases}
    return [altered(layer, own[kind]) for kind in kinds]


def modernbert_encoder(
    depth: int, dim: int, heads: int, hidden: int, vocab: int, attention_dropout: float = 0.0
) -> Spec:
    """A ModernBERT encoder of any shape: a global layer, then two local ones, and so on."""
    layer = block(
        "sequential",
        mixer=mixer("attention", position=position("rope"), bias=False, out_bias=False, dropout=attention_dropout),
        ffn=ffn("glu", hidden=hidden),
        residual=residual("pre_after_first", norm=_LN, dropout=attention_dropout),
        ffn_residual=residual("pre", norm=_LN),
    )
    blocks = _blocks(layer, [_GLOBAL, _LOCAL, _LOCAL], 128, _USUAL)
    tokens = embedding("tokens", vocab=vocab, position=position("none"), norm=_LN)
    return encoder("stack", dim=dim, heads=heads, depth=depth, embedding=tokens, blocks=blocks, norm=_LN)


_NORMS = ("norm", "embedding.norm", "blocks.0.residual.norm", "blocks.0.ffn_residual.norm")
_BASE = modernbert_encoder(depth=22, dim=768, heads=12, hidden=1152, vocab=50368)
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


def _layers(config: Config) -> list[str]:
    """The kinds of layers, as short a pattern as repeats. Raises ValueError for a kind that we do not have, or too few."""
    depth, every = config["num_hidden_layers"], config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [_LOCAL if i % every else _GLOBAL for i in range(depth)]
    if len(kinds) < depth:
        raise ValueError(f"layer_types names {len(kinds)} layers, and num_hidden_layers says {depth}")
    if odd := set(kinds) - {_GLOBAL, _LOCAL}:
        raise ValueError(f"layer_types {sorted(odd)} are not supported for ModernBERT; there are: {_GLOBAL}, {_LOCAL}")
    period = next(n for n in range(1, depth + 1) if all(kinds[i] == kinds[i % n] for i in range(depth)))
    return kinds[:period]


def _base(config: Config, kind: str) -> float:
    """The base of the positions of a kind of layers, as newer and older configs say it."""
    said = (config.get("rope_parameters") or {}).get(kind) or {}
    if older := config.get("rope_scaling"):
        raise ValueError(f"rope_scaling {older} is not supported for ModernBERT")
    if (how := said.get("rope_type", "default")) != "default":
        raise ValueError(f"rope_type {how!r} of {kind} is not supported for ModernBERT; only 'default' is")
    return float(said.get("rope_theta", config.get(_OLD[kind], _USUAL[kind])))


def _spec(config: Config) -> Spec:
    tied(config, "ModernBERT")
    made, bases = spec_of(_BASE, _FIELDS, config), {kind: _base(config, kind) for kind in _USUAL}
    blocks = _blocks(made.get("blocks.0"), _layers(config), config.get("local_attention", 128), bases)
    return made.replace("blocks", blocks)


def _config(spec: Spec) -> Config:
    blocks, depth = spec.get("blocks"), spec.get("depth")
    windows = [one.get("mixer.window") for one in blocks]
    kinds = [_LOCAL if window else _GLOBAL for window in windows]
    bases = _USUAL | {kind: one.get("mixer.position.base") for kind, one in zip(kinds, blocks, strict=True)}
    layers: Config = {
        "layer_types": [kinds[i % len(kinds)] for i in range(depth)],
        "local_attention": max(windows) or 128,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
    }
    return config_of(_FIELDS, spec) | layers | TIED


_PARTS = {
    "mixer.q mixer.k mixer.v": "attn.Wqkv",
    "mixer.out": "attn.Wo",
    "mixer_residual.norm": "attn_norm",
    "ffn.gate ffn.up": "mlp.Wi",
    "ffn.down": "mlp.Wo",
    "ffn_residual.norm": "mlp_norm",
}
_ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embeddings.tok_embeddings.weight"),
    *each("encoder.", "", {"embedding.norm": "embeddings.norm", "norm": "final_norm"}),
    *each("encoder.layers.{i}.", "layers.{i}.", _PARTS),
]


def _class(base: Spec, where: str, rows: list[Row], fields: list[Field]) -> Stock:
    """All its heads have a layer, an activation and a norm before the logits; `where` they stand in ours."""
    between = [
        at("classifier_activation", where + "act", usual="gelu", turn=ACT),
        at("classifier_bias", where + "bias", usual=False),
        at("norm_eps", where + "norm.eps", usual=1e-5),
        at("norm_bias", where + "norm.bias", usual=False),
    ]
    return told(base, [*each(f"head.{where}", "head.", {"dense": "dense", "norm": "norm"}), *rows], [*between, *fields])


_DENSE, _OUT = ffn("dense", norm=_LN), both("head.out", "classifier")
_DROPOUT = at("classifier_dropout", "dropout", usual=0.0, turn=NUMBER)
_POOLS = {"cls": pools("first"), "mean": pools("mean")}
_POOL = at("classifier_pooling", "pool.pool", usual="cls", turn=named(_POOLS, "mean"))
_POOLED = heads("linear", pool=pools("transformed", transform=_DENSE))
_SEQUENCE = _class(_POOLED, "pool.transform.", _OUT, [_DROPOUT, _POOL])
_DECODER = [at("decoder_bias", "out_bias", usual=True)]
FAMILY = Family(
    types={"modernbert": "ModernBert"},
    prefix="model.",
    spec=_spec,
    config=_config,
    rows=lambda config: _ROWS,
    stocks={
        "Model": NO_HEAD,
        "ForMaskedLM": _class(heads("masked_lm", norm=_LN), "", [("head.bias", "decoder.bias")], _DECODER),
        "ForSequenceClassification": _SEQUENCE,
        "ForMultipleChoice": as_choice(_SEQUENCE),
        "ForTokenClassification": _class(heads("token", transform=_DENSE), "transform.", _OUT, [_DROPOUT]),
        "ForQuestionAnswering": _class(heads("span", transform=_DENSE), "transform.", _OUT, [_DROPOUT]),
    },
    unused=("decoder.weight", "rotary_emb"),
)
