"""What stands on the encoder in the stock classes that many families have alike."""

from collections.abc import Callable, Sequence

from bertsmith.head import head as heads
from bertsmith.hf import Config, Row, Stock, act_back, act_of, both
from bertsmith.hf.fields import NUMBER, Field, at, config_of, spec_of
from bertsmith.norm import norm
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec

USUAL = {"classifier_dropout_prob": 0.1}  # what a field says where a config is silent; else it is the encoder's
SUMMARY: Config = {
    "summary_type": "last",
    "summary_use_proj": False,
    "summary_activation": "",
    "summary_first_dropout": 0.0,
    "summary_last_dropout": 0.0,
}
SUMMED = {("first", True): "bert", ("last", True): "last", ("first", False): "first", ("last", False): "final"}


DROPOUT = at("classifier_dropout", "dropout", usual=0.0, turn=NUMBER)
NO_HEAD = Stock(lambda config: None)
SPANS = Stock(lambda config: heads("span"), both("head.out", "qa_outputs"))
REPLACED = Stock(
    lambda config: heads("replaced_token", act=lm_act(config)),
    [
        *both("head.dense", "discriminator_predictions.dense"),
        *both("head.out", "discriminator_predictions.dense_prediction"),
    ],
)


def lm_norm(config: Config) -> Spec:
    """The norm of BERT's heads."""
    return norm("layer", eps=config.get("layer_norm_eps", 1e-12))


def lm_act(config: Config) -> str:
    """The activation of BERT's heads: the encoder's."""
    return act_of(config["hidden_act"])


def lm_rows(
    ours: str,
    dense: str = "cls.predictions.transform.dense",
    norm: str = "cls.predictions.transform.LayerNorm",
    bias: str = "cls.predictions.bias",
) -> list[Row]:
    """A masked-LM head under BERT's names, or others."""
    return [*both(ours + ".dense", dense), *both(ours + ".norm", norm), (ours + ".bias", bias)]


def classifier_dropout(config: Config, field: str = "classifier_dropout") -> float:
    """What stands before a classifier; the encoder's where `field` says nothing."""
    said = config.get(field, USUAL.get(field))
    return float(config.get("hidden_dropout_prob", 0.1) if said is None else said)


def dropout_in(field: str) -> Callable[[Spec], Config]:
    """A head -> the field that says its dropout; nothing where `field` is ""."""
    return lambda head: {field: head.args["dropout"]} if field else {}


def tokens(dropout: Callable[[Config], float], config: Callable[[Spec], Config] = lambda head: {}) -> Stock:
    """A classifier of tokens; `dropout`: config -> its rate, `config`: head -> the field that says it, where there is one."""
    return Stock(lambda said: heads("token", dropout=dropout(said)), both("head.out", "classifier"), config)


def without(stocks: dict[str, Stock], endings: str) -> dict[str, Stock]:
    """Those that a family has: `without(bert_stocks("layoutlm."), "ForPreTraining ForMultipleChoice")`."""
    return {ending: stock for ending, stock in stocks.items() if ending not in endings.split()}


def told(base: Spec, rows: Sequence[Row], fields: Sequence[Field]) -> Stock:
    """A class whose head is `base` with the settings that the fields say."""

    def has(head: Spec, path: str) -> bool:
        try:
            head.get(path)
        except ValueError:  # a head of other pieces, which the class does not hold
            return False
        return True

    def config(head: Spec) -> Config:
        return config_of([field for field in fields if has(head, field.paths[0])], head)

    return Stock(lambda config: spec_of(base, fields, config), rows, config)


def as_choice(classifier: Stock) -> Stock:
    """Multiple choice by the head of a classifier, with one output."""

    def head(config: Config) -> Spec | None:
        made = classifier.head(config)
        return None if made is None else heads("choice", **made.args)

    return Stock(head, classifier.rows, classifier.config)


def sequences(classifier: Stock) -> dict[str, Stock]:
    """The two classes that have a classifier's head."""
    return {"ForSequenceClassification": classifier, "ForMultipleChoice": as_choice(classifier)}


def with_pairs(masked_lm: Stock, pooled: Stock, pairs: str) -> Stock:
    """Pre-training: the masked-LM head of one class, and a classifier of pairs with the pool and the dropout of another.

    `pairs`: theirs, the linear layer of that classifier.
    """

    def head(config: Config) -> Spec | None:
        one = pooled.head(config)
        if one is None:
            return None
        said = {name: one.args[name] for name in ("pool", "dropout") if name in one.args}
        return heads("lm_with_pairs", masked_lm=masked_lm.head(config), **said)

    def rows(config: Config) -> list[Row]:
        words = [(str(row[0]).replace("head", "head.masked_lm", 1), *row[1:]) for row in masked_lm.table(config)]
        pool = [row for row in pooled.table(config) if str(row[0]).startswith("head.pool.")]
        return [*words, *pool, *both("head.next", pairs)]  # type: ignore[list-item]

    return Stock(head, rows, lambda made: masked_lm.config(made.get("masked_lm")) | pooled.config(made))


def bert_stocks(prefix: str, field: str = "classifier_dropout", pooler: str = "pooler.dense") -> dict[str, Stock]:
    """BERT's classes, for a family with the same heads and another prefix.

    `field` of the config says a classifier's dropout; "" where it is always the encoder's. `pooler`: the name of the pooler's
    layer below the prefix.
    """
    said, rows = dropout_in(field), both("head.pool.dense", prefix + pooler)
    sequence = Stock(
        lambda config: heads("linear", pool=pools("bert"), dropout=classifier_dropout(config, field)),
        [*rows, *both("head.out", "classifier")],
        said,
    )
    return {
        "Model": Stock(lambda config: heads("vector", pool=pools("bert")), rows),
        "ForMaskedLM": Stock(
            lambda config: heads("masked_lm", norm=lm_norm(config), act=lm_act(config)), lm_rows("head")
        ),
        "ForPreTraining": Stock(
            lambda config: heads("bert_pretraining", norm=lm_norm(config), act=lm_act(config)),
            [*lm_rows("head.masked_lm"), *rows, *both("head.next", "cls.seq_relationship")],
        ),
        **sequences(sequence),
        "ForTokenClassification": tokens(lambda config: classifier_dropout(config, field), said),
        "ForQuestionAnswering": SPANS,
    }


def own_layer(act: str = "", field: str = "classifier_dropout") -> Stock:
    """A classifier with a layer of its own, dropout on both sides of it; `act` "" where it has the encoder's activation."""

    def head(config: Config) -> Spec:
        drop = classifier_dropout(config, field)
        return heads("linear", pool=pools("bert", act=act or lm_act(config), dropout=drop), dropout=drop)

    rows = [*both("head.pool.dense", "classifier.dense"), *both("head.out", "classifier.out_proj")]
    return Stock(head, rows, dropout_in(field))


def summary(kind: str, usual: Config, out: str = "classifier") -> Stock:
    """A head of that kind on a "sequence summary": the first state or the last, through a layer or as it is.

    `usual`: what the fields say where a config is silent, as far as it is not `SUMMARY`.
    """

    def head(config: Config) -> Spec:
        which, layer, act, before, behind = ((SUMMARY | usual | config)[field] for field in SUMMARY)
        if (which, bool(layer)) not in SUMMED or not layer and (act or before):
            raise ValueError(
                f"summary_type {which!r} with summary_use_proj {layer!r} is not supported: 'first' and 'last' are, "
                "and without the layer neither summary_activation nor summary_first_dropout"
            )
        said = {"act": act_of(act) if act else "none", "dropout": float(before or 0)} if layer else {}
        return heads(kind, pool=pools(SUMMED[which, bool(layer)], **said), dropout=float(behind or 0))

    def config(head: Spec) -> Config:
        pool = head.get("pool")
        which, layer = next((k for k, v in SUMMED.items() if v == pool.kind), ("last", True))
        act = pool.args.get("act", "none")
        said = "" if act == "none" else act_back(act), pool.args.get("dropout", 0.0), head.args["dropout"]
        return dict(zip(SUMMARY, (which, layer, *said), strict=True))

    rows = [*both("head.pool.dense", "sequence_summary.summary"), *both("head.out", out)]
    return Stock(head, rows, config)
