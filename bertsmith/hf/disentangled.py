"""What the DeBERTas have alike: scores of content and place apart, no positions in the values, and their classes."""

from bertsmith.head import head as heads
from bertsmith.hf import Config, Row, Stock, act_of, both
from bertsmith.hf.bert import ROWS, bert_encoder
from bertsmith.hf.fields import ACT, SHAPE, TIED, Field, at, config_of, only, spec_of
from bertsmith.hf.stocks import NO_HEAD, SPANS, lm_rows, sequences, tokens, told
from bertsmith.mixer import mixer
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.position import position
from bertsmith.spec import Spec

TERMS = ("c2p", "p2c")
SHARE = ["**.mixer.position.table", "**.mixer.position.norm"]
UNUSED = ("position_ids", "cls.predictions.decoder.", "mask_predictions.", "embeddings.position_embeddings")


def norm_of(config: Config) -> Spec:
    """Theirs where the config is silent, not BERT's."""
    return norm("layer", eps=config.get("layer_norm_eps", 1e-7))


def terms_of(config: Config) -> list[str]:
    """The terms of the scores beside content to content; [] where attention is BERT's. Raises ValueError for others."""
    said = config.get("pos_att_type") or []
    said = [part.strip() for part in said.lower().split("|")] if isinstance(said, str) else said
    if set(said) - set(TERMS) or bool(said) != bool(config.get("relative_attention", False)):
        raise ValueError(
            f"pos_att_type {said} with relative_attention {config.get('relative_attention', False)} is not supported: "
            f"say some of {', '.join(TERMS)} with true, or none with false"
        )
    return [kind for kind in TERMS if kind in said]


def span_of(config: Config) -> int:
    """The distance from which on all are alike."""
    said = int(config.get("max_relative_positions", -1))
    return said if said > 0 else int(config["max_position_embeddings"])


def hidden_dropout(config: Config) -> float:
    """The encoder's dropout."""
    return config.get("hidden_dropout_prob", 0.1)


def _absolute(config: Config) -> Spec:
    biased = config.get("position_biased_input", True)
    return position("learned", length=config["max_position_embeddings"]) if biased else position("none")


BASE = bert_encoder(depth=12, dim=768, heads=12, vocab=128100)
FIELDS = [
    *SHAPE,
    at("hidden_act", "blocks.0.ffn.act", usual="gelu", turn=ACT),
    at("hidden_dropout_prob", "embedding.dropout", "blocks.0.residual.dropout", usual=0.1),
    at("attention_probs_dropout_prob", "blocks.0.mixer.dropout", usual=0.1),
    Field(
        "position_biased_input",
        ("embedding.position",),
        _absolute,
        lambda spec: spec.get("embedding.position").kind == "learned",
    ),
    at("type_vocab_size", "embedding.types", usual=0),
    at("layer_norm_eps", "embedding.norm.eps", "blocks.0.residual.norm.eps", usual=1e-7),
]


def stack(config: Config, place: Spec, key_bias: bool = True) -> Spec:
    """The encoder, without the convolution; `place` is the mixer's position, `key_bias` that of its keys."""
    only(config, {"embedding_size": config["hidden_size"]}, " beside another hidden_size")
    base = BASE.replace("blocks.0.mixer", mixer("attention", position=place, key_bias=key_bias))
    return spec_of(base.replace("share", SHARE if place.kind == "disentangled" else []), FIELDS, config)


def stack_config(spec: Spec) -> Config:
    """The fields of config.json that both versions have."""
    place, absolute, made = spec.get("blocks.0.mixer.position"), spec.get("embedding.position"), config_of(FIELDS, spec)
    relative = isinstance(place, Spec) and place.kind == "disentangled"
    span = place.get("span") if relative else 512
    return (
        made
        | TIED
        | {
            "max_position_embeddings": absolute.get("length") if made["position_biased_input"] else span,
            "relative_attention": relative,
            "pos_att_type": place.get("kinds") if relative else [],
            "max_relative_positions": span,
        }
    )


def shared_rows(config: Config) -> list[Row]:
    """BERT's but for queries, keys and values.

    Without the absolute positions where the input has none, though a released checkpoint may still hold a table.
    """
    absent = ["attention.self."] + ([] if config.get("position_biased_input", True) else ["position_embeddings"])
    return [row for row in ROWS if not any(part in row[1] for part in absent)]


def lm_head_rows(config: Config) -> list[Row]:
    """One head under two names: `legacy` false is the released checkpoints' own."""
    if config.get("legacy", True):
        return lm_rows("head")
    theirs = "lm_predictions.lm_head."
    return lm_rows("head", theirs + "dense", theirs + "LayerNorm", theirs + "bias")


def _before_logits(config: Config) -> float:
    said = config.get("cls_dropout")
    return hidden_dropout(config) if said is None else said


_CLASSIFIER = told(
    heads("linear", pool=pools("bert")),
    [*both("head.pool.dense", "pooler.dense"), *both("head.out", "classifier")],
    [
        at("pooler_hidden_act", "pool.act", usual="gelu", turn=ACT),
        at("pooler_dropout", "pool.dropout", usual=0.0),
        Field("cls_dropout", ("dropout",), _before_logits, lambda head: head.get("dropout")),
    ],
)


def classifier(config: Config) -> Spec | None:
    """Dropout, dense, activation, dropout, linear. Raises ValueError for a pooler of another width."""
    only(config, {"pooler_hidden_size": config["hidden_size"]}, " beside another hidden_size")
    return _CLASSIFIER.head(config)


STOCKS = {
    "Model": NO_HEAD,
    "ForMaskedLM": Stock(
        lambda config: heads("masked_lm", norm=norm_of(config), act=act_of(config.get("hidden_act", "gelu"))),
        lm_head_rows,
    ),
    **sequences(Stock(classifier, _CLASSIFIER.rows, _CLASSIFIER.config)),
    "ForTokenClassification": tokens(hidden_dropout),
    "ForQuestionAnswering": SPANS,
}
