"""BERT, thin and deep: each layer is narrow between a map down and a map up, has several feed-forwards and no layer norm.

Sun et al. 2020, MobileBERT, arXiv:2004.02984. The reference lets a text's last token see the padding behind it in its trigram:
ours see nothing outside the document.
"""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import TRANSPOSED, Config, Family, Row, bert, both, each
from bertsmith.hf.fields import ACT, SHAPE, TIED, Field, altered, at, config_of, fixed, named, refuse, spec_of
from bertsmith.hf.stocks import bert_stocks, classifier_dropout, lm_rows, sequences, told, with_pairs
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.residual import residual
from bertsmith.spec import Spec

_AFFINE = norm("affine")
# scale and shift, or the layer norm of its teacher
_KINDS = {"no_norm": _AFFINE, "layer_norm": norm("layer", eps=1e-5)}
_TOKENS = embedding("trigram", vocab=30522, width=128, position=bert.BASE.get("embedding.position"), norm=_AFFINE)
_POST = residual("post", norm=_AFFINE)
_LAYER = block("bottleneck", width=128, ffn=ffn("mlp", hidden=512), residual=_POST, out_residual=_POST, norm=_AFFINE)
_BASE = altered(bert.BASE, {"embedding": _TOKENS, "blocks.0": _LAYER})
_NORMS = ("embedding.norm", "blocks.0.norm", "blocks.0.residual.norm", "blocks.0.out_residual.norm")
_FIELDS = [
    *SHAPE,
    *fixed({"use_bottleneck": True}),
    at("embedding_size", "embedding.width"),
    at("trigram_input", "embedding.span", turn=(lambda yes: 3 if yes else 1, lambda span: span == 3)),
    at("key_query_shared_bottleneck", "blocks.0.split"),
    at("intra_bottleneck_size", "blocks.0.width"),
    at("num_feedforward_networks", "blocks.0.count"),
    at("hidden_act", "blocks.0.ffn.act", turn=ACT),
    at("hidden_dropout_prob", "embedding.dropout", "blocks.0.out_residual.dropout"),
    at("attention_probs_dropout_prob", "blocks.0.dropout"),
    at("max_position_embeddings", "embedding.position.length"),
    at("type_vocab_size", "embedding.types"),
    at("normalization_type", *_NORMS, turn=named(_KINDS, "no_norm")),
]


def _spec(config: Config) -> Spec:
    """Raises ValueError naming what we do not have."""
    none_or_both = config["use_bottleneck_attention"] == config["key_query_shared_bottleneck"]
    keys = "use_bottleneck_attention key_query_shared_bottleneck"
    refuse(none_or_both, config, keys, "; just one of them must be True")
    plain = not config["trigram_input"] and config["embedding_size"] == config["hidden_size"]
    refuse(plain, config, "trigram_input embedding_size", " where hidden_size is the same")
    kind = config["normalization_type"]  # some of the reference's layer norms have 1e-5 whatever the config says
    other = kind not in _KINDS or kind == "layer_norm" and config.get("layer_norm_eps") != 1e-5
    refuse(other, config, "normalization_type layer_norm_eps", "; 'no_norm' is, and 'layer_norm' with 1e-5")
    return spec_of(_BASE, _FIELDS, config)


def _config(spec: Spec) -> Config:
    made = config_of(_FIELDS, spec)
    eps = 1e-5 if made["normalization_type"] == "layer_norm" else 1e-12
    narrow = {"use_bottleneck_attention": not made["key_query_shared_bottleneck"]}
    return made | narrow | {"layer_norm_eps": eps, "classifier_activation": False} | TIED


def _rows(config: Config) -> list[Row]:
    """The last feed-forward has the names of BERT's only one."""
    last = config["num_feedforward_networks"] - 1
    parts = {"up": "output.bottleneck.dense", "out_residual.norm": "output.bottleneck.LayerNorm"}
    for ours, theirs in {"down": "bottleneck.input", "down_qk": "bottleneck.attention"}.items():
        parts |= {ours: f"{theirs}.dense", f"{ours}_norm": f"{theirs}.LayerNorm"}
    for j in range(last + 1):
        where = f"ffn.{j}." if j < last else ""
        parts |= {f"ffns.{j}.up": where + "intermediate.dense", f"ffns.{j}.down": where + "output.dense"}
        parts[f"ffn_residuals.{j}.norm"] = where + "output.LayerNorm"
    return [
        *(row for row in bert.ROWS if ".ffn" not in row[0]),
        *both("encoder.embedding.project", "embeddings.embedding_transformation"),
        *each("encoder.layers.{i}.", "encoder.layer.{i}.", parts),
    ]


_FIRST, _POOLER = pools("first"), both("head.pool.dense", "mobilebert.pooler.dense")
_POOL = at("classifier_activation", "pool", usual=True, turn=named({True: pools("bert"), False: _FIRST}, False))
_DROPOUT = Field("classifier_dropout", ("dropout",), classifier_dropout, lambda head: head.get("dropout"))
_SAID = [at("layer_norm_eps", "norm.eps", usual=1e-12), at("hidden_act", "act", turn=ACT)]
_REST: Row = ("head.rest.weight", "cls.predictions.dense.weight", TRANSPOSED)  # of the width, beside the token table's
_MASKED_LM = told(heads("stretched_lm", norm=norm("layer")), [*lm_rows("head"), _REST], _SAID)
_VECTOR = told(heads("vector", pool=_FIRST), _POOLER, [_POOL])
_SEQUENCE = told(heads("linear", pool=_FIRST), [*_POOLER, *both("head.out", "classifier")], [_POOL, _DROPOUT])
FAMILY = Family(
    types={"mobilebert": "MobileBert"},
    prefix="mobilebert.",
    spec=_spec,
    config=_config,
    rows=_rows,
    stocks=bert_stocks("mobilebert.")
    | {"Model": _VECTOR, "ForMaskedLM": _MASKED_LM}
    | {"ForPreTraining": with_pairs(_MASKED_LM, _VECTOR, "cls.seq_relationship")}
    | sequences(_SEQUENCE),
    unused=bert.UNUSED,
)
