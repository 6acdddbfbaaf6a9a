"""RoBERTa with windows, and marked tokens that read and are read everywhere by projections of their own.  arXiv:2004.05150.

Beltagy et al. 2020. Marks are `layout.extra["global"]`. Without them the classifier marks the first token of
each document, and so does ours (`first`, also the field `first_is_global` of configs written here); the other classes mark
none. LongformerModel marks none whatever the config says: hand it the marks if `first` is set.
LongformerForQuestionAnswering marks the question, LongformerForMultipleChoice the choice: here the caller does.

The reference draws the dropout of attention weights for the places of a window, ours for those of a chunk.
"""

from bertsmith.block import block
from bertsmith.hf import Config, Family, Row, Stock, both
from bertsmith.hf.bert import ROWS
from bertsmith.hf.fields import layers
from bertsmith.hf.roberta import UNUSED, roberta_config, roberta_spec, roberta_stocks
from bertsmith.hf.stocks import own_layer
from bertsmith.mixer import mixer
from bertsmith.spec import Spec

_L, _H = "encoder.layers.{i}.mixer.", "encoder.layer.{i}.attention.self."
GLOBAL: list[Row] = [
    row for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value"))
    for row in both(f"{_L}{ours}_global", f"{_H}{theirs}_global")
]  # fmt: skip


def marks_first(config: Config) -> bool:
    """Whether the class of a config marks the first token by itself."""
    by_class = (config.get("architectures") or [""])[0].endswith("ForSequenceClassification")
    return bool(config.get("first_is_global", by_class))


def longformer_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    plain, said = roberta_spec(config), config.get("attention_window", 512)
    depth = plain.get("depth")
    windows = [said] * depth if isinstance(said, int) else list(said)
    if len(windows) != depth or any(w < 2 or w % 2 for w in windows):
        raise ValueError(
            f"attention_window {said} is not supported: it is an even number, or one for each of {depth} layers"
        )
    one = plain.get("blocks.0")
    blocks = [
        block(
            "sequential",
            mixer=mixer("longformer", window=w, first=marks_first(config), dropout=one.get("mixer.dropout")),
            ffn=one.get("ffn"),
            residual=one.get("residual"),
        )
        for w in (windows[:1] if len(set(windows)) == 1 else windows)
    ]
    return plain.replace("blocks", blocks)


def longformer_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    return roberta_config(spec) | {
        "attention_window": [one.get("mixer.window") for one in layers(spec)],
        "first_is_global": spec.get("blocks.0.mixer.first"),
    }


PLAIN = own_layer("tanh", "")


def classifier(config: Config) -> Spec | None:
    """None for an encoder that does not mark the first token: the stock classifier always does."""
    return PLAIN.head(config) if marks_first(config) else None


FAMILY = Family(
    types={"longformer": "Longformer"},
    prefix="longformer.",
    spec=longformer_spec,
    config=longformer_config,
    rows=lambda config: [*ROWS, *GLOBAL],
    stocks=roberta_stocks("longformer.", "") | {"ForSequenceClassification": Stock(classifier, PLAIN.rows)},
    unused=UNUSED,
)
