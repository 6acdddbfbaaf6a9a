"""BERT, thin and deep: each layer is narrow between a map down and a map up, has several feed-forwards and no layer norm.

Sun et al. 2020, MobileBERT, arXiv:2004.02984. The reference lets a text's last token see the padding behind it in its trigram:
ours see nothing outside the document.
"""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import TRANSPOSED, Config, Family, Row, both, each
from bertsmith.hf.bert import ROWS, UNUSED
from bertsmith.hf.fields import ACT, SHAPE, TIED, Both, Field, at, config_of, spec_of
from bertsmith.hf.stocks import as_choice, bert_stocks, classifier_dropout, lm_rows, told
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec


def norm_of(config: Config) -> Spec:
    """Scale and shift, or the layer norm of its teacher."""
    kind, eps = config["normalization_type"], config.get("layer_norm_eps", 1e-12)
    if kind == "no_norm":
        return norm("affine")
    if kind != "layer_norm" or eps != 1e-5:  # some of the reference's norms have 1e-5 whatever the config says
        raise ValueError(
            f"normalization_type {kind!r} with layer_norm_eps {eps} is not supported; 'no_norm' is, and 'layer_norm' with 1e-5"
        )
    return norm("layer", eps=1e-5)


NAMES, _AFFINE = {"layer": "layer_norm"}, norm("affine")
_TOKENS = embedding("trigram", vocab=30522, width=128, position=position("learned", length=512), norm=_AFFINE)
_POST = residual("post", norm=_AFFINE)
_LAYER = block("bottleneck", width=128, ffn=ffn("mlp", hidden=512), residual=_POST, out_residual=_POST, norm=_AFFINE)
BASE = encoder("stack", dim=512, heads=4, depth=24, embedding=_TOKENS, blocks=[_LAYER], norm=norm("none"))
NORMS = ("embedding.norm", "blocks.0.norm", "blocks.0.residual.norm", "blocks.0.out_residual.norm")
FIELDS = [
    *SHAPE,
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
    Field("normalization_type", NORMS, norm_of, lambda spec: NAMES.get(spec.get("embedding.norm").kind, "no_norm")),
]


def spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    narrow, split = config["use_bottleneck_attention"], config["key_query_shared_bottleneck"]
    if not config["use_bottleneck"]:
        raise ValueError("use_bottleneck False is not supported; only True is")
    if narrow == split:
        raise ValueError(
            f"use_bottleneck_attention {narrow} with key_query_shared_bottleneck {split} is not supported; "
            "just one of them must be True"
        )
    if not config["trigram_input"] and config["embedding_size"] == config["hidden_size"]:
        raise ValueError("trigram_input False with an embedding_size as large as hidden_size is not supported")
    return spec_of(BASE, FIELDS, config)


def config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    made = config_of(FIELDS, spec)
    plain = made["normalization_type"] == "no_norm"
    more = {"use_bottleneck": True, "use_bottleneck_attention": not made["key_query_shared_bottleneck"]}
    return made | more | {"layer_norm_eps": 1e-12 if plain else 1e-5, "classifier_activation": False} | TIED


def rows(config: Config) -> list[Row]:
    """The weight table."""
    last = config["num_feedforward_networks"] - 1
    parts = {
        "down": "bottleneck.input.dense",
        "down_norm": "bottleneck.input.LayerNorm",
        "down_qk": "bottleneck.attention.dense",
        "down_qk_norm": "bottleneck.attention.LayerNorm",
        "up": "output.bottleneck.dense",
        "out_residual.norm": "output.bottleneck.LayerNorm",
    }
    for j in range(last + 1):
        where = f"ffn.{j}." if j < last else ""
        parts |= {f"ffns.{j}.up": where + "intermediate.dense", f"ffns.{j}.down": where + "output.dense"}
        parts[f"ffn_residuals.{j}.norm"] = where + "output.LayerNorm"
    shared = [row for row in ROWS if ".ffn" not in row[0]]
    return [
        *shared,
        *both("encoder.embedding.project", "embeddings.embedding_transformation"),
        *each("encoder.layers.{i}.", "encoder.layer.{i}.", parts),
    ]


def _lm(place: str = "") -> tuple[list[Row], list[Field]]:
    """(tensors, fields) of the masked-LM head: the token table, and a table for the rest of the width."""
    rest = (f"head.{place}rest.weight", "cls.predictions.dense.weight", TRANSPOSED)
    said = [at("layer_norm_eps", place + "norm.eps", usual=1e-12), at("hidden_act", place + "act", turn=ACT)]
    return [*lm_rows(f"head.{place}".removesuffix(".")), rest], said


_PLAIN, _STRETCHED = pools("first"), heads("stretched_lm", norm=norm("layer"))
_POOLS: Both = (lambda yes: pools("bert" if yes else "first"), lambda pool: pool.kind == "bert")
_POOL = at("classifier_activation", "pool", usual=True, turn=_POOLS)
_POOLER = both("head.pool.dense", "mobilebert.pooler.dense")
_DROPOUT = Field("classifier_dropout", ("dropout",), classifier_dropout, lambda head: head.get("dropout"))
_SEQUENCE = told(heads("linear", pool=_PLAIN), [*_POOLER, *both("head.out", "classifier")], [_POOL, _DROPOUT])
_PAIRS = heads("lm_with_pairs", masked_lm=_STRETCHED, pool=_PLAIN)
_ROWS, _SAID = _lm("masked_lm.")
FAMILY = Family(
    types={"mobilebert": "MobileBert"},
    prefix="mobilebert.",
    spec=spec,
    config=config,
    rows=rows,
    stocks=bert_stocks("mobilebert.")
    | {
        "Model": told(heads("vector", pool=_PLAIN), _POOLER, [_POOL]),
        "ForMaskedLM": told(_STRETCHED, *_lm()),
        "ForPreTraining": told(_PAIRS, [*_ROWS, *_POOLER, *both("head.next", "cls.seq_relationship")], [*_SAID, _POOL]),
        "ForSequenceClassification": _SEQUENCE,
        "ForMultipleChoice": as_choice(_SEQUENCE),
    },
    unused=UNUSED,
)
