"""Which relation holds between two marked spans of a text? One label out of several.

The spans are marked by signs around them, as Wu & He 2019, arXiv:1905.08284, section 3.2; by default plain ones, so that the
vocabulary stays as it is. Tokens of the spans bear the mark "entity", those of the signs before them "sign", 1 for the first
and 2 for the second: `head/entity_pair` reads the one, `head/entity_start` the other.

Scored as SemEval-2010 task 8 (Hendrickx et al. 2010, S10-1006): `metric/directed_f1`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertsmith.align import cover
from bertsmith.coding import Coder, Row
from bertsmith.head import head as heads
from bertsmith.labelled.spans import Span
from bertsmith.marked import SIGNS, mark_text
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.task import Task
from bertsmith.task import task as tasks
from bertsmith.wordrows import spans_of

NAMES = {"e1": 0, "e2": 1}  # labels of spans that say which is the first


class RelationOfTwo(Task):
    """A raw label is the name of a relation, "Cause-Effect(e2,e1)"; the second text of an example is a list of two spans, the
    first argument first, or with the labels "e1" and "e2" in any order.

    Of a text longer than a row the first window is read that holds both spans, or else the beginning.

    Args:
        signs: before and behind the first span, before and behind the second; none if empty.
        other: labels that are no relation, and are not scored.
        main: f1 (of relations, as the official score), accuracy, macro_f1 or matthews.
    """

    floor = "accuracy"
    fewest = 2
    paper = "arXiv:1905.08284"

    def __init__(
        self,
        labels: list[str],
        *,
        signs: list[str] = list(SIGNS),  # noqa: B006, B008
        other: list[str] = ["Other"],  # noqa: B006
        main: str = "f1",
    ) -> None:
        super().__init__(labels)
        scored = ("f1", "accuracy", "macro_f1", "matthews")
        if main not in scored:
            raise ValueError(f"task/relation measures {', '.join(scored)}; not {main!r}")
        self.signs, self.main, self.plain = signs, main, tasks("single_label").build(labels)
        names = [name.removesuffix("(e1,e2)").removesuffix("(e2,e1)") for name in labels]
        relations = sorted(set(names) - set(other))
        self.group = [-1 if name in other else relations.index(name) for name in names]

    def head(self) -> Spec:
        return heads("entity_pair", fact="entity")

    def names(self, raw: list[Any]) -> list[str]:
        return self.plain.names(raw)

    def strata(self, raw: list[Any]) -> list[str] | None:
        return self.plain.strata(raw)

    def encode(self, raw: list[Any]) -> Tensor:
        return self.plain.encode(raw)

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        if pairs is None:
            raise ValueError("a relation is between two spans: give them beside each text (pair=)")
        target_N = None if raw is None else self.encode(raw)
        made = []
        for i, (text, given) in enumerate(zip(texts, pairs, strict=True)):
            try:
                made.append(mark_text(text, _two(given), self.signs))
            except ValueError as error:
                raise ValueError(f"text {i}: {error}") from None
        found = []
        stride = coder.max_length // 4
        for i, windows in enumerate(coder.windows([text for text, _, _ in made], None, stride)):
            text, spans, signs = made[i]
            places = [[cover(text, code, span) for span in spans] for code in windows]
            best = next((n for n, both in enumerate(places) if None not in both), 0)
            read = coder.one_window(i, windows, best)
            before = [cover(text, read, Span(at, at + 1)) for at in signs]
            marks = {
                "entity": _marks(len(read), places[best]),
                "sign": _marks(len(read), [at and (at[0], at[0]) for at in before]),
            }
            target = {} if target_N is None else {"target": target_N[i]}
            found.append(Row(i, [read], target, marks))
        return found

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.plain.loss(logits, target)

    def decode(self, logits: Tensor) -> list[Any]:
        return self.plain.decode(logits)

    def probabilities(self, logits: Tensor) -> np.ndarray:
        return self.plain.probabilities(logits)

    def predicted(self, logits: Tensor) -> np.ndarray:
        return self.plain.predicted(logits)

    def true(self, target: Tensor) -> np.ndarray:
        return self.plain.true(target)

    def metrics(self) -> Scores:
        made = {"f1": metric("directed_f1", group=self.group)}
        made |= {name: metric(name) for name in ("accuracy", "macro_f1", "matthews")}
        names = sorted(made, key=lambda name: name != self.main)
        return Scores({name: made[name].build(len(self.labels)) for name in names})


def _two(raw: Any) -> list[Span]:
    spans = spans_of(raw)
    if len(spans) == 2 and {span.label for span in spans} == NAMES.keys():
        spans.sort(key=lambda span: NAMES[span.label])
    return spans


def _marks(size: int, places: list[tuple[int, int] | None]) -> Tensor:
    """1 from the first to the last token of the first place, 2 in the second, 0 else."""
    found = torch.zeros(size, dtype=torch.long)
    for number, place in enumerate(places, 1):
        if place is not None:
            found[place[0] : place[1] + 1] = number
    return found
