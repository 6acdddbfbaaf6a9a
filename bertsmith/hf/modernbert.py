"""ModernBERT: local between global attention, turned positions, gated units, pre-norm.  Warner et al. 2024, arXiv:2412.13663.

Global and local layers turn queries and keys with bases of their own. The first layer's attention has no norm: that of the
embedding has just been. Dropout of the attention's output has the rate of its weights.
"""

from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, each, fields, layer_rows
from bertsmith.hf.fields import ACT, BIASES, SHAPE, TIED, TURNED, Field, at, config_of, named, spec_of
from bertsmith.hf.stocks import DROPOUT, NO_HEAD, sequences, told
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec

_GLOBAL, _LOCAL, _TURN = "full_attention", "sliding_attention", "mixer.position.base"
# what the layers of a kind have of their own; older configs say the base of their positions at a key of its own
_KINDS = {
    _GLOBAL: [fields.rope(160000.0, _TURN, "global_rope_theta", _GLOBAL)],
    _LOCAL: [fields.rope(10000.0, _TURN, "local_rope_theta", _LOCAL), at("local_attention", "mixer.window", usual=128)],
}
_LN = norm("layer")
_BASE = fields.pre_norm(TURNED, ffn("glu", hidden=1152), _LN, first=_LN)
_NORMS = ("norm", "embedding.norm", "blocks.0.residual.norm", "blocks.0.ffn_residual.norm")
_FIELDS = [
    *SHAPE,
    *BIASES,
    at("hidden_activation", "blocks.0.ffn.act", usual="gelu", turn=ACT),
    at("norm_eps", *(f"{path}.eps" for path in _NORMS), usual=1e-5),
    at("norm_bias", *(f"{path}.bias" for path in _NORMS), usual=False),
    at("attention_dropout", "blocks.0.mixer.dropout", "blocks.0.residual.dropout", usual=0.0),
    at("embedding_dropout", "embedding.dropout", usual=0.0),
    at("mlp_dropout", "blocks.0.ffn.dropout", usual=0.0),
]


def _kinds(config: Config) -> list[str]:
    """The kinds of layers, as short a pattern as repeats. Raises ValueError for a kind that we do not have, or too few."""
    depth, every = config["num_hidden_layers"], config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [_LOCAL if i % every else _GLOBAL for i in range(depth)]
    fields.refuse(len(kinds) < depth, config, "layer_types num_hidden_layers", "; each layer has one")
    fields.known("layer_types", kinds, _KINDS, " for ModernBERT")
    period = next(n for n in range(1, depth + 1) if all(kinds[i] == kinds[i % n] for i in range(depth)))
    return kinds[:period]


def _spec(config: Config) -> Spec:
    """Layers of a kind are alike but for how far they see and the base of their positions."""
    fields.tied(config, "ModernBERT")
    fields.refuse(bool(config.get("rope_scaling")), config, "rope_scaling", " for ModernBERT")
    made = spec_of(_BASE, _FIELDS, config)
    layers = {kind: spec_of(made.get("blocks.0"), own, config) for kind, own in _KINDS.items()}
    return made.replace("blocks", [layers[kind] for kind in _kinds(config)])


def _config(spec: Spec) -> Config:
    layers = fields.layers(spec)
    kinds = [_LOCAL if one.get("mixer.window") else _GLOBAL for one in layers]
    own = {kind: config_of(_KINDS[kind], one) for kind, one in zip(kinds, layers, strict=True)}
    turned = {kind: made["rope_parameters"] for kind, made in own.items()}
    said = config_of(_FIELDS, spec) | own.get(_LOCAL, {}) | TIED
    return said | {"layer_types": kinds, "rope_parameters": turned}


def _class(base: Spec, where: str, rows: list[Row], *own: Field) -> Stock:
    """All its heads have a layer, an activation and a norm before the logits; `where` they stand in ours."""
    between = [
        at("classifier_activation", where + "act", usual="gelu", turn=ACT),
        at("classifier_bias", where + "bias", usual=False),
        at("norm_eps", where + "norm.eps", usual=1e-5),
        at("norm_bias", where + "norm.bias", usual=False),
    ]
    return told(base, [*each(f"head.{where}", "head.", {"dense": "dense", "norm": "norm"}), *rows], [*between, *own])


_ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embeddings.tok_embeddings.weight"),
    *each("encoder.", "", {"embedding.norm": "embeddings.norm", "norm": "final_norm"}),
    *layer_rows("layers.{i}.", "attn.Wqkv attn.Wqkv attn.Wqkv attn.Wo attn_norm", "mlp.Wi mlp.Wi mlp.Wo mlp_norm"),
]
_DENSE, _OUT = ffn("dense", norm=_LN), both("head.out", "classifier")
_POOLS = named({"cls": pools("first"), "mean": pools("mean")}, "mean")
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
        **sequences(_class(_POOLED, "pool.transform.", _OUT, DROPOUT, _POOL)),
        "ForTokenClassification": _class(heads("token", transform=_DENSE), "transform.", _OUT, DROPOUT),
        "ForQuestionAnswering": _class(heads("span", transform=_DENSE), "transform.", _OUT, DROPOUT),
    },
    unused=("decoder.weight", "rotary_emb"),
)
