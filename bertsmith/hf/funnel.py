"""Funnel: layers that halve the tokens block by block, with Transformer-XL's positions.  Dai et al. 2020, arXiv:2006.03236.

The classes that read [CLS] alone have no decoder. "factorized" attention, made for TPUs, is the same function.

The reference, in padded rows: it pools a text's last token with padding, and leaves out the last place of the row and not of
the text, so that padding changes what it says. The reference, opening a checkpoint whose config has a pad_token_id: it sets
that token's row to 0, whatever was saved.
"""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, by_heads, each
from bertsmith.hf.fields import ACT, NUMBER, at, config_of, head_dim, only, spec_of
from bertsmith.hf.stocks import NO_HEAD, REPLACED, SPANS, as_choice, told
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

_ONLY = {"pooling_type": "mean", "separate_cls": True, "truncate_seq": True, "pool_q_only": True}


def _decoder(config: Config) -> int:
    """Layers of the decoder: the class says whether there is one."""
    name = (config.get("architectures") or ["FunnelModel"])[0]
    if name in ("FunnelBaseModel", "FunnelForSequenceClassification", "FunnelForMultipleChoice"):
        return 0
    if config["num_decoder_layers"] < 1:
        raise ValueError(
            f"num_decoder_layers {config['num_decoder_layers']} is not supported for {name}; 1 or more are"
        )
    return int(config["num_decoder_layers"])


_PLACE = "blocks.0.mixer.position"
_TOKENS = embedding("tokens", vocab=30522, position=position("none"), norm=norm("layer"))
_LAYER = block(
    "sequential",
    mixer=mixer("attention", position=position("transformer_xl", types=True, apart=True), query_bias=False),
    ffn=ffn("mlp", hidden=3072),
    residual=residual("post", norm=norm("layer")),
)
_SIZE = {"dim": 768, "heads": 12, "sizes": [4, 4, 4], "decoder": 2}
_BASE = encoder("funnel", **_SIZE, embedding=_TOKENS, blocks=[_LAYER], norm=norm("none"))
_FIELDS = [
    at("vocab_size", "embedding.vocab"),
    at("block_sizes", "sizes"),
    at("d_model", "dim"),
    at("n_head", "heads"),
    head_dim("d_head", "d_model", "n_head"),
    at("d_inner", "blocks.0.ffn.hidden"),
    at("hidden_act", "blocks.0.ffn.act", turn=ACT),
    at("hidden_dropout", "embedding.dropout", "blocks.0.residual.dropout", _PLACE + ".dropout", usual=0.1),
    at("attention_dropout", "blocks.0.mixer.dropout", usual=0.1),
    at("activation_dropout", "blocks.0.ffn.dropout", usual=0.0),
    at("layer_norm_eps", "embedding.norm.eps", "blocks.0.residual.norm.eps", usual=1e-9),
]


def _spec(config: Config) -> Spec:
    """Raises ValueError for other ways of pooling, blocks whose layers are repeated, and a decoder of no layers."""
    only(config, _ONLY, " for Funnel")
    if any(n != 1 for n in config.get("block_repeats") or []):
        raise ValueError(f"block_repeats {config['block_repeats']} is not supported for Funnel; only 1 each is")
    return spec_of(_BASE, _FIELDS, config).replace("decoder", _decoder(config))


def _config(spec: Spec) -> Config:
    decoder = spec.get("decoder")
    depth = {"num_decoder_layers": decoder or 2} | ({} if decoder else {"architectures": ["FunnelBaseModel"]})
    repeats = {"block_repeats": [1] * len(spec.get("sizes")), "tie_word_embeddings": True}
    return _ONLY | config_of(_FIELDS, spec) | repeats | depth


_PARTS = {
    "mixer.k": "attention.k_head",
    "mixer.v": "attention.v_head",
    "mixer.out": "attention.post_proj",
    "mixer_residual.norm": "attention.layer_norm",
    "ffn.up": "ffn.linear_1",
    "ffn.down": "ffn.linear_2",
    "ffn_residual.norm": "ffn.layer_norm",
}


def _layer(ours: str, theirs: str, count: int) -> list[Row]:
    place, far = ours + "mixer.position.", theirs + "attention."
    # in theirs the row for tokens of two types stands before that for tokens of one
    turned = (lambda x: x.flatten(1).flip(0), lambda x: x.flip(0).unflatten(1, (count, -1)))
    return [
        *each(ours, theirs, _PARTS),
        (ours + "mixer.q.weight", far + "q_head.weight"),
        *((place + one, f"{far}r_{other}_bias") for one, other in zip("uvw", "wrs", strict=True)),
        (place + "r.weight", far + "r_kernel", by_heads(count)),
        (place + "s.weight", far + "seg_embed", turned),
    ]


def _rows(config: Config) -> list[Row]:
    theirs = [f"encoder.blocks.{b}.{i}." for b, size in enumerate(config["block_sizes"]) for i in range(size)]
    theirs += [f"decoder.layers.{i}." for i in range(_decoder(config))]
    return [
        ("encoder.embedding.table.weight", "embeddings.word_embeddings.weight"),
        *both("encoder.embedding.norm", "embeddings.layer_norm"),
        *[row for n, name in enumerate(theirs) for row in _layer(f"encoder.layers.{n}.", name, config["n_head"])],
    ]


_DROPOUT = at("hidden_dropout", "dropout", usual=0.1, turn=NUMBER)
_OUT = {"pool.dense": "linear_hidden", "out": "linear_out"}
_SEQUENCE = told(heads("linear", pool=pools("bert")), each("head.", "classifier.", _OUT), [_DROPOUT])
FAMILY = Family(
    types={"funnel": "Funnel"},
    prefix="funnel.",
    spec=_spec,
    config=_config,
    rows=_rows,
    stocks={
        "Model": NO_HEAD,
        "BaseModel": NO_HEAD,
        "ForMaskedLM": Stock(lambda config: heads("lm_linear", bias=True), [("head.bias", "lm_head.bias")]),
        "ForPreTraining": REPLACED,
        "ForSequenceClassification": _SEQUENCE,
        "ForMultipleChoice": as_choice(_SEQUENCE),
        "ForTokenClassification": told(heads("token"), both("head.out", "classifier"), [_DROPOUT]),
        "ForQuestionAnswering": SPANS,
    },
    unused=("lm_head.weight",),
)
