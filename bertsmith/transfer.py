"""Does what was learnt on one set of entailment hold on the others? A matrix: trained on, tested on.

Talman & Chatzikyriakidis 2018, arXiv:1810.09774. All sets are read with the two labels that they share, entailment or not:
RTE tells no more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertsmith import adapter, baseline, sets
from bertsmith.evaluate import score_examples
from bertsmith.examples import Examples
from bertsmith.files import write_atomic
from bertsmith.interval import t_interval
from bertsmith.model import Model, load
from bertsmith.recipes.tuning import named
from bertsmith.sets import TaskSet
from bertsmith.sets.pairs import ENTAILMENT
from bertsmith.suite_cell import Cell, Protocol, done, measure, protocol_of
from bertsmith.suite_table import rounded, shown
from bertsmith.table import Say, aloud

NLI = ("conjnli", "rte", "sick")
LABELS = [ENTAILMENT, f"not_{ENTAILMENT}"]
METRICS = ("accuracy", "macro_f1")


def across(
    model: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    chosen: Sequence[str] = NLI,
    method: str = "full",
    protocol: str | Protocol = "fixed",
    limit: int | None = None,
    seeds: int = 3,
    seed: int = 0,
    name: str = "",
    cache: str | Path | None = None,
    progress: bool = True,
    say: Say = aloud,
) -> dict[str, Any]:
    """Tune a model on each set in turn, and test it on all of them; OUT/across.json and OUT/across.md.

    The arguments are those of `suite.run_suite`; OUT may be the same. The same call again goes on where a killed one was.

    Returns:
        {"matrix": trained on -> tested on -> {metric: mean and interval, "degenerate": seeds that gave one answer throughout},
        "majority": tested on -> accuracy of the best constant answer by its own training split, "sets", ...}
    """
    if seeds < 1 or limit is not None and limit < 1:
        raise ValueError(f"seeds and limit must be at least 1; got {seeds} and {limit}")
    if unknown := sorted(set(chosen) - set(NLI)):
        raise ValueError(f"no set of entailment {', '.join(map(repr, unknown))}; there are: {', '.join(NLI)}")
    how, base, out = protocol_of(protocol), load(model), Path(out)
    named(method)
    title, weights = name or Path(model).resolve().name, adapter.digest(base)
    held = {one: two_way(sets.read(one, data, cache)) for one in chosen}
    matrix: dict[str, Any] = {}
    for source, whole in held.items():
        one, cells = whole.limited(limit, seed), []
        for number in range(seed, seed + seeds):
            cell = Cell(title, weights, source, method, how, number, limit, seed)
            if not done(out / "across", cell):
                say(f"across: {cell.stem}")
                measure(base, one, cell, out / "across", lambda tuned: _tests(tuned, held), progress, say)
            path = out / "across" / "cells" / f"{cell.stem}.json"
            cells.append(json.loads(path.read_text(encoding="utf-8")))
        matrix[source] = {target: _entry(cells, target) for target in held}
    found: dict[str, Any] = {
        "model": title,
        "method": method,
        "protocol": how.name,
        "limit": limit,
        "labels": LABELS,
        "matrix": matrix,
        "majority": {target: _majority(one) for target, one in held.items()},
        "sets": {
            target: {"made": one.made, "test": len(one.test), "citation": one.citation, "licence": one.licence}
            for target, one in held.items()
        },
    }
    write_atomic(out / "across.json", json.dumps(found, indent=1))
    write_atomic(out / "across.md", markdown(found) + "\n")
    return found


def two_way(one: TaskSet) -> TaskSet:
    """A set of entailment with its labels as "entailment" and "not_entailment"."""

    def folded(examples: Examples) -> Examples:
        return replace(examples, label=[LABELS[label != ENTAILMENT] for label in examples.label])

    splits = {name: folded(x) for name, x in (("train", one.train), ("valid", one.valid), ("test", one.test))}
    return replace(one, **splits, metric="accuracy", also=None)


def _tests(tuned: Model, held: dict[str, TaskSet]) -> dict[str, Any]:
    """The scores of a model on the test splits of all sets, for a cell."""
    found = {}
    for target, one in held.items():
        scores = score_examples(tuned, one.task.build(tuned.labels), one.test, one.max_length)
        found[target] = {**{name: scores.value()[name] for name in METRICS}, "constant": scores.constant}
    return {"across": found}


def _entry(cells: list[dict[str, Any]], target: str) -> dict[str, Any]:
    """One place of the matrix; runs whose numbers went bad have no scores."""
    tested = {cell["asked"]["seed"]: cell.get("across", {}).get(target) for cell in cells}
    found: dict[str, Any] = {name: t_interval([x and x[name] for x in tested.values()]) for name in METRICS}
    return found | {"degenerate": [seed for seed, x in tested.items() if x is None or x["constant"]]}


def _majority(one: TaskSet) -> float | None:
    return baseline.majority(one.task.build(LABELS), one.train, one.test)["accuracy"]


def markdown(found: dict[str, Any]) -> str:
    """The matrix of accuracies as a table."""
    targets = list(found["matrix"])
    lines = [
        f"{found['model']}, {found['method']}, {found['protocol']}: accuracy (entailment or not), 95 % intervals over seeds.",
        "",
        f"| trained on | {' | '.join(targets)} |",
        "|---" * (1 + len(targets)) + "|",
    ]
    for source, row in found["matrix"].items():
        said = [shown(row[t]["accuracy"] | {"degenerate": row[t]["degenerate"]}) for t in targets]
        lines.append(f"| {source} | {' | '.join(said)} |")
    known = [found["majority"][t] for t in targets]
    lines.append(f"| one answer | {' | '.join(map(rounded, known))} |")
    return "\n".join(lines)
