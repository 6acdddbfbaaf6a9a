"""Labelled texts taken from a table, and which task their labels set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertsmith.spec import Spec
from bertsmith.table import Say, Table, aloud
from bertsmith.task import task

FEW = 20  # whole numbers with at most this many different values are labels, with more they are quantities


@dataclass(frozen=True)
class Examples:
    """N texts, a second text for each where the task is about pairs, and N raw labels."""

    text: list[str]
    pair: list[str] | None
    label: list[Any]

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows: list[int]) -> Examples:
        """The examples with these numbers, in this order."""
        pair = None if self.pair is None else [self.pair[i] for i in rows]
        return Examples([self.text[i] for i in rows], pair, [self.label[i] for i in rows])

    def keys(self) -> list[str]:
        """What tells examples apart: the text, or both texts."""
        return self.text if self.pair is None else [f"{a}\x1f{b}" for a, b in zip(self.text, self.pair, strict=True)]


def take_examples(
    table: Table, text: str, pair: str | None, label: str, *, unlabelled: bool = False, say: Say = aloud
) -> Examples:
    """The examples of a table. Rows without a text, and rows without a label, are left out and counted aloud.

    unlabelled: keep rows without a label (tasks of several labels, where it means none of them).
    Raises KeyError for a column that is not there, ValueError if no row is left.
    """
    texts = [table.column(text), table.column(pair) if pair is not None else table.column(text)]
    labels = table.column(label)
    has_text = [all(x is not None and str(x).strip() for x in row) for row in zip(*texts, strict=True)]
    has_label = [unlabelled or not (x is None or x == "") for x in labels]
    rows = [i for i in range(len(table)) if has_text[i] and has_label[i]]
    if lost := len(table) - sum(has_text):
        say(f"{table.name}: {lost} of {len(table)} rows have no text and are left out")
    if lost := sum(t and not y for t, y in zip(has_text, has_label, strict=True)):
        say(f"{table.name}: {lost} of {len(table)} rows have no label and are left out")
    if not rows:
        raise ValueError(f"{table.name} has no row with both {text!r} and {label!r}")
    pairs = None if pair is None else [str(texts[1][i]) for i in rows]
    return Examples([str(texts[0][i]) for i in rows], pairs, [labels[i] for i in rows])


def guess_task(raw: list[Any]) -> Spec:
    """The task that raw labels set, by rules:

    lists: several labels. Strings with "|" or ";" between parts, where some part occurs in two different strings:
    several labels. Numbers (or strings that all spell numbers): regression if one is not whole or more than 20
    differ. Everything
    else: one label.
    """
    there = [x for x in raw if x is not None and x != ""]
    if any(isinstance(x, list) for x in there):
        return task("multi_label")
    for separator in "|;":
        different = [
            frozenset(p.strip() for p in x.split(separator) if p.strip())
            for x in {x for x in there if isinstance(x, str)}
        ]
        parts = [part for found in set(different) for part in found]
        if any(len(found) > 1 for found in different) and len(set(parts)) < len(parts):
            return task("multi_label", separator=separator)
    numbers = _numbers(there)
    if numbers is not None and (len(set(numbers)) > FEW or any(not x.is_integer() for x in numbers)):
        return task("regression")
    return task("single_label")


def _numbers(values: list[Any]) -> list[float] | None:
    """All values as finite numbers, or None if one is not (truth values are not)."""
    try:
        found = [float(x) for x in values if not isinstance(x, bool)]
    except (TypeError, ValueError):
        return None
    finite = all(x - x == 0 for x in found)
    return found if found and len(found) == len(values) and finite else None
