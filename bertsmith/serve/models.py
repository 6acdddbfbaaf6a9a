"""A model as the server holds it: its name, what it can be asked, and how it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from bertsmith.coding import Flat, Row
from bertsmith.engine import Precision
from bertsmith.layout import Layout
from bertsmith.model import Model
from bertsmith.pool import pool as pools
from bertsmith.serve.attention import MOST, attention
from bertsmith.serve.errors import Refused

CLASSIFIES = ("single_label", "multi_label", "ordinal", "regression")

What = tuple[Any, ...]  # what is asked of a model: a word, and settings


@dataclass(frozen=True)
class Limits:
    """What the server takes; what is more is refused.

    Attributes:
        body: bytes of a request. texts, tokens: of a request; tokens as they are before long texts are cut.
        batch: tokens that a model reads at a time. waiting: tokens in its queue.
        seconds: that a request may take.
    """

    body: int = 8 << 20
    texts: int = 2048
    tokens: int = 1 << 18
    batch: int = 4096
    waiting: int = 1 << 18
    seconds: float = 60.0


@dataclass(frozen=True)
class Read:
    """What a request asks about, as its model takes it.

    Attributes:
        items: one for each that was sent: a text or pair, or what became of it (see `Served.read`).
        tokens: that the model reads for each.
        total: of all, before anything was cut.
    """

    items: Sequence[Any]
    tokens: list[int]
    total: int


class Served:
    """A model, and what can be asked of it.

    Args:
        name: what requests call it.
        precision: of everything that it answers.
    """

    def __init__(self, name: str, model: Model, precision: Precision):
        self.name, self.model = name, model
        self.precision: Precision = precision
        self.task = model.task.build(model.labels) if model.task is not None else None
        self.speaks = model.head is not None and model.head.speaks
        self.alone = ""  # why texts for it stand in no batch with those for others of its base

    @property
    def kind(self) -> str:
        """What it is there for, by the names that Hugging Face has for tasks, or that of its task."""
        if self.model.task is None:
            return "fill-mask" if self.speaks else "feature-extraction"
        named = {"tagging": "token-classification", "extractive_qa": "question-answering"}
        named |= dict.fromkeys(CLASSIFIES, "text-classification")
        return named.get(self.model.task.kind, self.model.task.kind)

    def need(self, kind: str) -> None:
        """Refused, if this is not what the model is there for."""
        if self.kind != kind:
            raise Refused(
                400, f"the model {self.name!r} does {self.kind}, not {kind}: ask another (GET /info lists them)"
            )

    def read(self, what: What, items: Sequence[Any], cut: bool) -> Read:
        """Items as `run` takes them. Texts are tokenized here, and not again.

        Args:
            what: ("encode",), ("fill", top) or ("attention", layer) of texts; ("predict",) or ("pairs",) of (text, second).
            cut: whether a text that is longer than the model reads may be cut.

        Raises ValueError if it may not be and there is one; Refused if it is too long for its attention to be shown.
        """
        coder = self.model.coder(0, "truncate" if cut else "error")
        if what[0] in ("predict", "pairs"):
            assert self.task is not None
            texts, seconds = (list(x) for x in zip(*items, strict=True))
            found: list[list[Row]] = [[] for _ in texts]
            for row in self.task.rows(coder, texts, seconds if what[0] == "pairs" else None, None):
                found[row.example].append(row)
            tokens = [sum(map(len, rows)) for rows in found]
            return Read(found, tokens, sum(tokens) + coder.lost)
        codes = coder.encode(items)
        if what[0] == "attention" and any(len(code) > MOST for code in codes):
            raise Refused(413, f"attention is shown of texts of {MOST} tokens at the most: send a shorter one")
        return Read(list(zip(items, codes, strict=True)), [len(code) for code in codes], coder.seen)

    def run(self, what: What, items: list[Any]) -> list[Any]:
        """The answers to what `read` made of items."""
        how, *more = what
        if how in ("predict", "pairs"):
            assert self.task is not None
            rows = [replace(row, example=i) for i, rows in enumerate(items) for row in rows]
            parts = dict(self.model.parts(self.task, rows, self.precision))
            return self.task.answers([parts[i] for i in range(len(items))])
        texts, codes = (list(x) for x in zip(*items, strict=True))
        if how == "encode":
            return list(self.model.pooled(Flat.of(codes), self.model.pooling, self.precision))
        if how == "fill":
            return self.model.filled(texts, codes, more[0], self.precision)
        return [attention(self.model, code, more[0]) for code in codes]

    def read_states(self, what: What, rows: Sequence[Row], x_BTD: Tensor, layout: Layout) -> list[Any]:
        """What `answer` wants of each row, of its states; what: as `run` takes it, without masks and attention."""
        if what[0] == "encode":
            return list(pools(self.model.pooling).build(x_BTD.shape[-1])(x_BTD, layout).float().numpy())
        assert self.task is not None
        return self.model.read(self.task, rows, x_BTD, layout)

    def answer(self, what: What, parts: list[Any]) -> Any:
        """The answer to an item, of what `read_states` made of its rows."""
        if what[0] == "encode":
            return parts[0]
        assert self.task is not None
        return self.task.answers([parts])[0]

    def count(self, items: Sequence[Any]) -> list[int]:
        """Tokens of each item, special tokens included, before anything is cut."""
        return [len(code) for code in self.model.tokenizer.encode_batch_fast([as_text(item) for item in items])]

    def about(self) -> dict[str, Any]:
        """What is said of it at /info."""
        model = self.model
        found: dict[str, Any] = {"name": self.name, "task": self.kind, "labels": model.labels, "dim": model.encoder.dim}
        found |= {"pooling": model.pooling, "max_input_length": model.max_length, "alone": self.alone}
        return found | {"promise": self.precision} | model.engine.about(self.precision)


def as_text(item: Any) -> str:
    """An item as one text, for counting: a text, or one and what is asked with it (a second text, a list of choices)."""
    if isinstance(item, str):
        return item
    text, second = item
    if second is None:
        return text
    return " ".join([text, second] if isinstance(second, str) else [text, *second])
