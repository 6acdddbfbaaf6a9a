"""BERT as `transformers` stores it.  Devlin et al. 2018, arXiv:1810.04805."""

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.ffn import ffn
from bertsmith.hf import Config, Family, Row, both
from bertsmith.hf.fields import ACT, SHAPE, TIED, at, config_of, only, spec_of
from bertsmith.hf.stocks import bert_stocks
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.position import position
from bertsmith.residual import residual
from bertsmith.spec import Spec

_L, _H = "encoder.layers.{i}.", "encoder.layer.{i}."
ROWS: list[Row] = [
    ("encoder.embedding.table.weight", "embeddings.word_embeddings.weight"),
    ("encoder.embedding.types.weight", "embeddings.token_type_embeddings.weight"),
    ("encoder.embedding.position.table.weight", "embeddings.position_embeddings.weight"),
    *both("encoder.embedding.norm", "embeddings.LayerNorm"),
    *both(_L + "mixer.q", _H + "attention.self.query"),
    *both(_L + "mixer.k", _H + "attention.self.key"),
    *both(_L + "mixer.v", _H + "attention.self.value"),
    *both(_L + "mixer.out", _H + "attention.output.dense"),
    *both(_L + "mixer_residual.norm", _H + "attention.output.LayerNorm"),
    *both(_L + "ffn.up", _H + "intermediate.dense"),
    *both(_L + "ffn.down", _H + "output.dense"),
    *both(_L + "ffn_residual.norm", _H + "output.LayerNorm"),
]


def bert_encoder(
    depth: int,
    dim: int,
    heads: int,
    vocab: int,
    hidden: int = 0,
    length: int = 512,
    types: int = 2,
    dropout: float = 0.1,
    attention_dropout: float | None = None,
    act: str = "gelu",
    eps: float = 1e-12,
) -> Spec:
    """A BERT encoder of any shape; hidden is 4 * dim where not said."""
    ln, place = norm("layer", eps=eps), position("learned", length=length)
    layer = block(
        "sequential",
        mixer=mixer("attention", dropout=dropout if attention_dropout is None else attention_dropout),
        ffn=ffn("mlp", hidden=hidden or 4 * dim, act=act),
        residual=residual("post", norm=ln, dropout=dropout),
    )
    tokens = embedding("tokens", vocab=vocab, types=types, norm=ln, dropout=dropout, position=place)
    return encoder("stack", dim=dim, heads=heads, depth=depth, embedding=tokens, blocks=[layer], norm=norm("none"))


BASE = bert_encoder(depth=12, dim=768, heads=12, vocab=30522)
FIELDS = [
    *SHAPE,
    at("hidden_act", "blocks.0.ffn.act", turn=ACT),
    at("hidden_dropout_prob", "embedding.dropout", "blocks.0.residual.dropout", usual=0.1),
    at("attention_probs_dropout_prob", "blocks.0.mixer.dropout", usual=0.1),
    at("max_position_embeddings", "embedding.position.length"),
    at("type_vocab_size", "embedding.types"),
    at("layer_norm_eps", "embedding.norm.eps", "blocks.0.residual.norm.eps", usual=1e-12),
]


def encoder_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    only(config, {"position_embedding_type": "absolute"}, " for BERT")
    if config.get("is_decoder"):
        raise ValueError("is_decoder True is not supported: it reads from left to right, and only encoders are opened")
    return spec_of(BASE, FIELDS, config)


def encoder_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    return config_of(FIELDS, spec) | TIED


UNUSED = ("position_ids", "cls.predictions.decoder.", "cls.predictions.bias_dummy")

FAMILY = Family(
    types={"bert": "Bert"},
    prefix="bert.",
    spec=encoder_spec,
    config=encoder_config,
    rows=lambda config: ROWS,
    stocks=bert_stocks("bert."),
    unused=UNUSED,
)
