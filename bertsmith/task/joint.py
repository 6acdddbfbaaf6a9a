"""Several tasks over one text, each with a head of its own: intent and slots, or data sets that are labelled in part each.

    L = sum of w_i L_i over the parts that some example of the batch asks

An example asks the parts that its label names. Joint BERT for intents and slots, Chen, Zhuo & Wang 2019, arXiv:1902.10909;
several partly labelled sets of named entities, MT-BioNER, Khan et al. 2020, arXiv:2001.08904.

Differs from the second paper: the sets are mixed within a batch, not taken in turns.

B rows of the batch, T places, C documents, K numbers of a head.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bertsmith.coding import Coder, Row
from bertsmith.head import head as heads
from bertsmith.metric import Metric
from bertsmith.parts import MeanOf, PartOf
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.task import Prediction, Task

NOTHING = -100  # the target of a token that is not asked


class Joint(Task):
    """A raw label is an object from names of parts to their raw labels; parts that it has not, or None, are not asked.

    A part asks about the text as a whole, or about its tokens; these cut a long text in the same way. What is said of a long
    text as a whole is what its first window says.

    Args:
        parts: the task of each part, by name.
        heads: the heads of parts that shall not have the one that their task takes.
        weights: of the losses of parts; 1 where a part is not named.
        main: the metric by which epochs are chosen, such as "slots_span_f1"; "": the mean of the parts' main ones where all
            are better when higher, else that of the first part.
    """

    paper = "arXiv:1902.10909"
    example = {"parts": {"intent": {"kind": "task/single_label"}}}

    def __init__(
        self,
        labels: list[str],
        *,
        parts: dict[str, Spec],
        heads: dict[str, Spec] = {},  # noqa: B006
        weights: dict[str, float] = {},  # noqa: B006
        main: str = "",
    ) -> None:
        super().__init__(labels)
        if not parts or any(not name.isidentifier() for name in parts) or not {*heads, *weights} <= parts.keys():
            raise ValueError(
                f"task/joint needs parts with plain names, and heads and weights of these alone; got parts {', '.join(parts)}, "
                f"heads {', '.join(heads)}, weights {', '.join(weights)}"
            )
        own = {name: [x[len(name) + 1 :] for x in labels if x.startswith(f"{name}.")] for name in parts}
        self.specs, self.parts = parts, {name: spec.build(own[name]) for name, spec in parts.items()}
        self.heads = {name: heads.get(name) or one.head() for name, one in self.parts.items()}
        self.weights, self.main = {name: weights.get(name, 1.0) for name in parts}, main
        self.outputs = sum(one.outputs for one in self.parts.values())
        self.about_tokens = [name for name, one in self.parts.items() if type(one).rows is not Task.rows]
        self.fields = {f"asked.{name}": "row" for name in parts} | {
            f"{name}.{field}": what for name, one in self.parts.items() for field, what in one.fields.items()
        }
        self.floor = self.metrics().main

    @property
    def output_names(self) -> list[str]:
        return [f"{name}.{output}" for name, one in self.parts.items() for output in one.output_names]

    def head(self) -> Spec:
        return heads("joint", heads=self.heads, outputs={name: one.outputs for name, one in self.parts.items()})

    def asking(self, raw: list[Any], name: str) -> list[int]:
        """The examples that ask a part."""
        return [i for i, one in enumerate(raw) if self.label(one).get(name) is not None]

    def of(self, raw: list[Any], name: str) -> list[Any]:
        """The raw labels of one part, of the examples that ask it."""
        return [raw[i][name] for i in self.asking(raw, name)]

    def label(self, raw: Any) -> dict[str, Any]:
        """A raw label. ValueError for what is none, or names a part that there is not."""
        if not isinstance(raw, dict) or not raw.keys() <= self.parts.keys():
            raise ValueError(
                f"a label of task/joint is an object with some of {', '.join(map(repr, self.parts))}; got {raw!r:.80}"
            )
        return raw

    def names(self, raw: list[Any]) -> list[str]:
        found = []
        for name, one in self.parts.items():
            if not (given := self.of(raw, name)):
                raise ValueError(f"no example has a label for the part {name!r}")
            own = one.names(given)
            if len(own) < one.fewest:
                raise ValueError(
                    f"part {name!r} has {'only one label, ' + repr(own[0]) + ': nothing to learn' if own else 'no label'}"
                )
            found += [f"{name}.{label}" for label in own]
        return found

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        parts = dict(self.specs)
        for name, one in self.parts.items():
            for setting, value in one.settled(self.of(raw, name)).items():
                parts[name] = parts[name].replace(setting, value)
        return {"parts": parts}

    def strata(self, raw: list[Any]) -> list[str] | None:
        """Those of the first part that has any and that all examples ask."""
        for name, one in self.parts.items():
            given = self.of(raw, name)
            if len(given) == len(raw) and (found := one.strata(given)) is not None:
                return found
        return None

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        if raw is not None and (empty := [name for name in self.parts if not self.asking(raw, name)]):
            raise ValueError(f"no example to train on has a label for the part {empty[0]!r}")
        made = {name: self._about_tokens(name, coder, texts, pairs, raw) for name in self.about_tokens}
        if not made:
            made[""] = [Row(i, [code]) for i, code in enumerate(coder.encode(texts, pairs))]
        base = next(iter(made.values()))
        for name, rows in made.items():
            if [[c.ids for c in row.codes] for row in rows] != [[c.ids for c in row.codes] for row in base]:
                raise ValueError(
                    f"task/joint: {name} reads texts in other rows than {next(iter(made))}: let both have the same stride"
                )
        whole = self._whole(raw) if raw is not None else {}
        return [self._row({name: rows[n] for name, rows in made.items()}, whole, raw) for n in range(len(base))]

    def _about_tokens(
        self, name: str, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None
    ) -> list[Row]:
        """The rows of a part, in which nothing is asked of examples that do not ask it."""
        one = self.parts[name]
        if raw is None:
            return one.rows(coder, texts, pairs, None)

        def of(numbers: list[int], labels: list[Any] | None) -> list[Row]:
            some = one.rows(coder, [texts[i] for i in numbers], pairs and [pairs[i] for i in numbers], labels)
            return [replace(row, example=numbers[row.example]) for row in some]

        asked = self.asking(raw, name)
        rest = sorted(set(range(len(texts))) - set(asked))
        found = of(asked, self.of(raw, name))
        if rest and set(one.fields.values()) != {"token"}:
            raise ValueError(f"the part {name!r} must be asked of every example; text {rest[0]} has no label for it")
        found += [_unasked(row, found[0]) for row in (of(rest, None) if rest else [])]
        return sorted(found, key=lambda row: row.example)

    def _whole(self, raw: list[Any]) -> dict[str, list[Tensor]]:
        """The target of each example for parts about the text as a whole; that of another one where it is not asked."""
        found = {}
        for name in [name for name in self.parts if name not in self.about_tokens]:
            target = self.parts[name].encode(self.of(raw, name))
            at = {i: n for n, i in enumerate(self.asking(raw, name))}
            found[name] = [target[at.get(i, 0)] for i in range(len(raw))]
        return found

    def _row(self, rows: dict[str, Row], whole: dict[str, list[Tensor]], raw: list[Any] | None) -> Row:
        """The rows of all parts as one."""
        base = next(iter(rows.values()))
        target: dict[str, Tensor] = {}
        if raw is not None:
            target = {f"asked.{name}": torch.tensor(raw[base.example].get(name) is not None) for name in self.parts}
            target |= {f"{name}.target": found[base.example] for name, found in whole.items()}
            for name, row in rows.items():
                target |= {f"{name}.{field}": value for field, value in row.target.items()}
        marks = {name: value for row in rows.values() for name, value in row.marks.items()}
        return Row(base.example, base.codes, target, marks, {name: row.note for name, row in rows.items()})

    def ask(self, logits: Tensor, batch: dict[str, Any]) -> tuple[Any, Any]:
        layout, logits_of, target_of = batch["layout"], {}, {}
        first_BT = layout.real_BT & (layout.position_BT == 0)
        for name, y in self.split(logits).items():
            one = self.parts[name]
            here = batch | {field: batch[f"{name}.{field}"] for field in one.fields}
            if name not in self.about_tokens:
                asked_C = batch[f"asked.{name}"] > 0
                y, here = y[first_BT][asked_C], here | {"target": here["target"][asked_C]}
            logits_of[name], target_of[name] = one.ask(y, here)
        return logits_of, target_of

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """What each part's head says, [..., K] or, of a chain, [..., K, K]."""
        order = {name: spec.slot.load(spec.kind).order for name, spec in self.heads.items()}
        sizes = {name: one.outputs ** order[name] for name, one in self.parts.items()}
        if sum(sizes.values()) != logits.shape[-1]:
            raise ValueError(
                f"task/joint needs {sum(sizes.values())} numbers a token ({sizes}), as its own head gives them; it was given "
                f"{logits.shape[-1]}: name the heads of parts in its setting `heads`"
            )
        found = dict(zip(sizes, logits.split(list(sizes.values()), -1), strict=True))
        return {
            name: y if order[name] == 1 else y.unflatten(-1, [self.parts[name].outputs] * order[name])
            for name, y in found.items()
        }

    def loss(self, logits: Any, target: Any) -> Tensor:
        found = []
        for name, one in self.parts.items():
            nothing = name not in self.about_tokens and not len(target[name])  # which has no mean
            found.append(
                logits[name].sum() * 0.0 if nothing else self.weights[name] * one.loss(logits[name], target[name])
            )
        return torch.stack(found).sum()

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        return torch.stack([part.kl(one[name], two[name], target[name]) for name, part in self.parts.items()]).sum()

    def part(self, logits: Tensor, row: Row) -> dict[str, Any]:
        found = {}
        for name, y in self.split(logits).items():
            own = replace(row, note=row.note.get(name))
            found[name] = self.parts[name].part(y if name in self.about_tokens else y[:1], own)
        return found

    def _of_part(self, parts: list[list[Any]], name: str) -> list[list[Any]]:
        return [[window[name] for window in windows] for windows in parts]

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        each = {name: one.answers(self._of_part(parts, name)) for name, one in self.parts.items()}
        return [
            Prediction(
                {name: said[i].label for name, said in each.items()},
                {f"{name}.{label}": p for name, said in each.items() for label, p in said[i].scores.items()},
            )
            for i in range(len(parts))
        ]

    def read(self, parts: list[list[Any]]) -> list[dict[str, Any]]:
        each = {name: one.read(self._of_part(parts, name)) for name, one in self.parts.items()}
        return [{name: said[i] for name, said in each.items()} for i in range(len(parts))]

    def truth(self, raw: list[Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{} for _ in raw]
        for name, one in self.parts.items():
            given = self.asking(raw, name)
            for i, value in zip(given, one.truth(self.of(raw, name)) if given else [], strict=True):
                found[i][name] = value
        return found

    def constant(self, raw: list[Any], count: int) -> list[dict[str, Any]]:
        each = {name: one.constant(self.of(raw, name), count) for name, one in self.parts.items()}
        return [{name: said[i] for name, said in each.items()} for i in range(count)]

    def metrics(self) -> Scores:
        """Those of every part, "slots_span_f1", and "mean", that of the parts' main ones."""
        each = {name: one.metrics() for name, one in self.parts.items()}
        found: dict[str, Metric] = {
            f"{name}_{what}": PartOf(name, inner)
            for name, scores in each.items()
            for what, inner in scores.metrics.items()
        }
        mains = [found[f"{name}_{scores.main}"] for name, scores in each.items()]
        if len(each) > 1 and not any(one.lower for one in mains):
            found = {"mean": MeanOf(mains)} | found
        if self.main and self.main not in found:
            raise ValueError(f"task/joint has no metric {self.main!r}; it has: {', '.join(found)}")
        return Scores({self.main: found[self.main]} | found if self.main else found)


def _unasked(row: Row, like: Row) -> Row:
    """A row that has the marks and fields of another one, with nothing asked."""
    size = len(row)
    marks = {name: torch.zeros(size, dtype=x.dtype) for name, x in like.marks.items()} | row.marks
    target = {
        field: torch.full((size, *x.shape[1:]), torch.nan if x.is_floating_point() else NOTHING, dtype=x.dtype)
        for field, x in like.target.items()
    }
    return replace(row, marks=marks, target=target)
