"""A model as the server holds it: its name, what it can be asked, and its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertsmith.engine import Precision
from bertsmith.model import Model
from bertsmith.serve.batching import Worker
from bertsmith.serve.errors import Refused
from bertsmith.serve.metrics import Meter

CLASSIFIES = ("single_label", "multi_label", "ordinal", "regression")
LONG = 20_000  # characters from which texts are counted on another thread, so that others are served meanwhile


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


class Served:
    """A model, the thread that runs it, and what can be asked of it.

    Args:
        name: what requests call it.
        precision: of everything that it answers.
    """

    def __init__(self, name: str, model: Model, precision: Precision, limits: Limits, meter: Meter):
        self.name, self.model = name, model
        self.precision: Precision = precision
        self.task = model.task.build(model.labels) if model.task is not None else None
        self.speaks = model.head is not None and model.head.speaks
        self.worker = Worker(name, self.run, limits.batch, limits.waiting, meter)

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

    def run(self, what: Any, items: list[Any]) -> list[Any]:
        """The answers to items: texts for ("encode",) and ("fill", top), (text, second) for ("predict",) and ("pairs",)."""
        how, *more = what
        if how == "encode":
            return list(self.model.encode(items, precision=self.precision))
        if how == "fill":
            return self.model.fill(items, more[0], self.precision)
        texts, seconds = (list(x) for x in zip(*items, strict=True))
        found = self.model.predict(texts, seconds if how == "pairs" else None, precision=self.precision)
        assert isinstance(found, list)
        return found

    def warm(self) -> None:
        """Ask it once, so that what is decided at the first use is decided before anybody waits."""
        self.model.encode(["a b c"], precision=self.precision)

    async def count(self, items: Sequence[Any]) -> list[int]:
        """Tokens of each item, special tokens included, before anything is cut."""
        texts = [item if isinstance(item, str) else _as_text(item) for item in items]
        if sum(map(len, texts)) < LONG:
            return self._count(texts)
        return await asyncio.to_thread(self._count, texts)

    def _count(self, texts: list[str]) -> list[int]:
        return [len(code) for code in self.model.tokenizer.encode_batch_fast(texts)]

    def about(self) -> dict[str, Any]:
        """What is said of it at /info."""
        model = self.model
        found: dict[str, Any] = {"name": self.name, "task": self.kind, "labels": model.labels, "dim": model.encoder.dim}
        found |= {"pooling": model.pooling, "max_input_length": model.max_length, "waiting_tokens": self.worker.tokens}
        return found | {"promise": self.precision} | model.engine.about(self.precision)


def _as_text(item: tuple[str, Any]) -> str:
    """A text and what is asked with it, for counting: a second text, a list of choices, or nothing."""
    text, second = item
    if second is None:
        return text
    return " ".join([text, second] if isinstance(second, str) else [text, *second])
