"""Funnel: layers that halve the tokens block by block, with Transformer-XL's positions.  Dai et al. 2020, arXiv:2006.03236.

The classes that read [CLS] alone have no decoder. "factorized" attention, made for TPUs, is the same function.

The reference, in padded rows: it pools a text's last token with padding, and leaves out the last place of the row and not of
the text, so that padding changes what it says. The reference, opening a checkpoint whose config has a pad_token_id: it sets
that token's row to 0, whatever was saved.
"""

from bertsmith.encoder import encoder
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, by_heads, each, layer_rows
from bertsmith.hf.bert import BASE
from bertsmith.hf.fields import ACT, NUMBER, Field, altered, at, config_of, fixed, head_dim, refuse, shape, spec_of
from bertsmith.hf.stocks import NO_HEAD, REPLACED, SPANS, sequences, told
from bertsmith.mixer import mixer
from bertsmith.pool import pool as pools
from bertsmith.position import position

_BARE = "FunnelBaseModel"


def _sizes(config: Config) -> list[int]:
    """Layers of each block. Raises ValueError for blocks whose layers are repeated."""
    repeated = any(n != 1 for n in config.get("block_repeats") or [])
    refuse(repeated, config, "block_repeats", " for Funnel; only 1 each is")
    return list(config["block_sizes"])


def _decoder(config: Config) -> int:
    """Layers of the decoder: the class says whether there is one. Raises ValueError for a decoder of no layers."""
    name, count = (config.get("architectures") or ["FunnelModel"])[0], int(config["num_decoder_layers"])
    if name in (_BARE, "FunnelForSequenceClassification", "FunnelForMultipleChoice"):
        return 0
    refuse(count < 1, config, "num_decoder_layers", f" for {name}; 1 or more are")
    return count


_XL = mixer("attention", position=position("transformer_xl", types=True, apart=True), query_bias=False)
_LAYERS = altered(BASE, {"embedding.position": position("none"), "embedding.types": 0, "blocks.0.mixer": _XL})
_PARTS = {part: _LAYERS.get(part) for part in ("embedding", "blocks", "norm")}
_BASE = encoder("funnel", dim=768, heads=12, sizes=[4, 4, 4], decoder=2, **_PARTS)
_MIXER = "attention.q_head attention.k_head attention.v_head attention.post_proj attention.layer_norm"
_DROPPED = ("embedding.dropout", "blocks.0.residual.dropout", "blocks.0.mixer.position.dropout")
_FIELDS = [
    *fixed({"pooling_type": "mean", "separate_cls": True, "truncate_seq": True, "pool_q_only": True}, " for Funnel"),
    *shape("vocab_size d_model block_sizes n_head d_inner", "sizes"),
    Field("block_repeats", ("sizes",), _sizes, lambda spec: [1] * len(spec.get("sizes"))),
    Field("architectures", ("decoder",), _decoder, lambda spec: ["FunnelModel" if spec.get("decoder") else _BARE]),
    Field("num_decoder_layers", ("decoder",), _decoder, lambda spec: spec.get("decoder") or 2),
    head_dim("d_head", "d_model", "n_head"),
    at("hidden_act", "blocks.0.ffn.act", turn=ACT),
    at("hidden_dropout", *_DROPPED, usual=0.1),
    at("attention_dropout", "blocks.0.mixer.dropout", usual=0.1),
    at("activation_dropout", "blocks.0.ffn.dropout", usual=0.0),
    at("layer_norm_eps", "embedding.norm.eps", "blocks.0.residual.norm.eps", usual=1e-9),
]


def _layers(config: Config) -> list[tuple[str, str]]:
    """Ours are counted through all blocks and the decoder."""
    theirs = [f"encoder.blocks.{b}.{i}" for b, size in enumerate(config["block_sizes"]) for i in range(size)]
    theirs += [f"decoder.layers.{i}" for i in range(_decoder(config))]
    return [(str(n), name) for n, name in enumerate(theirs)]


def _rows(config: Config) -> list[Row]:
    count, place, far = config["n_head"], "encoder.layers.{i}.mixer.position.", "{i}.attention."
    # in theirs the row for tokens of two types stands before that for tokens of one
    turned = (lambda x: x.flatten(1).flip(0), lambda x: x.flip(0).unflatten(1, (count, -1)))
    return [
        ("encoder.embedding.table.weight", "embeddings.word_embeddings.weight"),
        *both("encoder.embedding.norm", "embeddings.layer_norm"),
        *layer_rows("{i}.", _MIXER, "ffn.linear_1 ffn.linear_2 ffn.layer_norm"),
        *((place + one, f"{far}r_{other}_bias") for one, other in zip("uvw", "wrs", strict=True)),
        (place + "r.weight", far + "r_kernel", by_heads(count)),
        (place + "s.weight", far + "seg_embed", turned),
    ]


_DROPOUT = at("hidden_dropout", "dropout", usual=0.1, turn=NUMBER)
_CLASSIFIER = each("head.", "classifier.", {"pool.dense": "linear_hidden", "out": "linear_out"})
FAMILY = Family(
    types={"funnel": "Funnel"},
    prefix="funnel.",
    spec=lambda config: spec_of(_BASE, _FIELDS, config),
    config=lambda spec: config_of(_FIELDS, spec) | {"tie_word_embeddings": True},
    rows=_rows,
    stocks={
        "Model": NO_HEAD,
        "BaseModel": NO_HEAD,
        "ForMaskedLM": Stock(lambda config: heads("lm_linear", bias=True), [("head.bias", "lm_head.bias")]),
        "ForPreTraining": REPLACED,
        **sequences(told(heads("linear", pool=pools("bert")), _CLASSIFIER, [_DROPOUT])),
        "ForTokenClassification": told(heads("token"), both("head.out", "classifier"), [_DROPOUT]),
        "ForQuestionAnswering": SPANS,
    },
    unused=("lm_head.weight",),
    layers=_layers,
)
