"""XLNet: BERT with Transformer-XL's relative positions, relative segments, and [CLS] last.  Yang et al. 2019, arXiv:1906.08237.

States of earlier segments (their `mems`) are read by `encoder/recurrent` around this encoder; the query stream is appended
tokens, see `embedding/two_stream`.

The reference, classifying padded rows: it reads the last place of the row, padding or not, so it is right with padding on the
left only.
"""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.head import head as heads
from bertsmith.hf import Config, Family, Row, Stock, both, by_heads
from bertsmith.hf.fields import ACT, at, config_of, fixed, head_dim, shape, spec_of
from bertsmith.hf.stocks import NO_HEAD, SPANS, summary, tokens
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.position import position
from bertsmith.residual import residual

_TOKENS = embedding("two_stream", vocab=32000)
_LAYER = block(
    "sequential",
    mixer=mixer("attention", position=position("transformer_xl", types=True), bias=False, out_bias=False),
    ffn=ffn("mlp", hidden=3072),
    residual=residual("post", norm=norm("layer")),
)
_BASE = encoder("stack", dim=768, heads=12, depth=12, embedding=_TOKENS, blocks=[_LAYER], norm=norm("none"))
_DROPS = ["embedding", *(f"blocks.0.{part}" for part in ("mixer", "mixer.position", "ffn", "residual"))]
_FIELDS = [
    *fixed({"attn_type": "bi", "bi_data": False}, " for XLNet"),  # not Transformer-XL, nor rows in two directions
    *shape("vocab_size d_model n_layer n_head d_inner"),
    head_dim("d_head", "d_model", "n_head"),
    at("ff_activation", "blocks.0.ffn.act", turn=ACT),
    at("dropout", *(f"{part}.dropout" for part in _DROPS), "dropout", usual=0.1),
    at("layer_norm_eps", "blocks.0.residual.norm.eps", usual=1e-12),
    at("clamp_len", "blocks.0.mixer.position.reach", usual=-1, turn=(lambda n: max(0, n or 0), lambda n: n or -1)),
]


def _rows(config: Config) -> list[Row]:
    count, split = config["n_head"], by_heads(config["n_head"])
    L, H = "encoder.layers.{i}.", "layer.{i}."
    joined = (lambda x: x.flatten(1), lambda x: x.unflatten(1, (count, -1)))  # [D, N, H] to [D, N H], [2, N, H] alike
    one = (lambda x: x.flatten(0, 1), lambda x: x[None])
    at = L + "mixer.position."
    return [
        ("encoder.embedding.table.weight", "word_embedding.weight"),
        ("encoder.embedding.query.weight", "mask_emb", one),
        *[(f"{L}mixer.{x}.weight", f"{H}rel_attn.{x}", split) for x in "qkv"],
        (L + "mixer.out.weight", H + "rel_attn.o", joined),
        (at + "r.weight", H + "rel_attn.r", split),
        (at + "u", H + "rel_attn.r_w_bias"),
        (at + "v", H + "rel_attn.r_r_bias"),
        (at + "w", H + "rel_attn.r_s_bias"),
        (at + "s.weight", H + "rel_attn.seg_embed", joined),
        *both(L + "mixer_residual.norm", H + "rel_attn.layer_norm"),
        *both(L + "ffn.up", H + "ff.layer_1"),
        *both(L + "ffn.down", H + "ff.layer_2"),
        *both(L + "ffn_residual.norm", H + "ff.layer_norm"),
    ]


_SUMMARY: Config = {"summary_use_proj": True, "summary_activation": "tanh", "summary_last_dropout": 0.1}
FAMILY = Family(
    types={"xlnet": "XLNet"},
    prefix="transformer.",
    spec=lambda config: spec_of(_BASE, _FIELDS, config),
    config=lambda spec: config_of(_FIELDS, spec) | {"tie_word_embeddings": True},
    rows=_rows,
    stocks={
        "Model": NO_HEAD,
        "LMHeadModel": Stock(lambda config: heads("lm_linear", bias=True), [("head.bias", "lm_loss.bias")]),
        "ForSequenceClassification": summary("linear", _SUMMARY, "logits_proj"),
        "ForMultipleChoice": summary("choice", _SUMMARY, "logits_proj"),
        "ForTokenClassification": tokens(lambda config: 0.0),
        "ForQuestionAnsweringSimple": SPANS,
    },
    unused=("lm_loss.weight",),
)
