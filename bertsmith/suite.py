"""Any encoder on many labelled sets, one table at the end: a model, a method and a protocol over sets and seeds.

A cell is one of each (`suite_cell`), the table is made of all of them (`suite_table`). OUT holds

    cells/*.json   the cells         sets/*.json   the sets, with the baselines that are measured once
    suite.json     the table         runs/         what is unfinished
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from bertsmith import adapter, baseline, sets
from bertsmith.beside import beside, simplest, usual
from bertsmith.files import write_atomic
from bertsmith.model import Model, load
from bertsmith.recipes.tuning import named
from bertsmith.sets import TaskSet
from bertsmith.splits import Splits, label_space
from bertsmith.suite_cell import Cell, Protocol, done, measure, protocol_of
from bertsmith.suite_table import rounded, rows_of
from bertsmith.table import Say, aloud

SUITES = {
    "english": (
        *("sst2", "cola", "trec", "goemotions", "mrpc", "rte", "stsb", "clinc150", "banking77"),
        *("wnut17", "bc5cdr", "ncbi_disease", "conll04", "squad", "inspec", "ud_tags", "ud_trees"),
    )
}


def run_suite(
    model: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    chosen: Sequence[str | TaskSet] | None = None,
    suite: str = "english",
    methods: Sequence[str] = ("full",),
    protocols: Sequence[str | Protocol] = ("fixed",),
    limit: int | None = None,
    seeds: int = 3,
    seed: int = 0,
    name: str = "",
    cache: str | Path | None = None,
    baselines: bool | Literal["all"] = True,
    progress: bool = True,
    say: Say = aloud,
) -> dict[str, Any]:
    """Tune and measure a model on every set; the same call again goes on where a killed one was.

    Calls with other models, methods, protocols, sets or more seeds may share `out`: the table then has them all.

    Args:
        model: a directory that `load` opens, ours or Hugging Face's.
        data: the folder of the archives (see `sets.read`); sets whose archive is not there are left out, aloud.
        chosen: sets, by name or as they are (`sets.own`); all of the suite if None. One that is named and not there is an
            error.
        methods: as `recipes.tuning.named` takes them: "full", "lora:rank=4".
        limit: examples to train on, and to choose by, at the most: a function of `seed`. Test splits stay whole.
        seeds: runs with seed, seed + 1, ...; splits and the limit are the same for all.
        name: of the model in the table; its directory's if not said.
        cache: where unpacked sets stay.
        baselines: once a set, beside the best constant answer: TF-IDF; "all" that read words alone; or none.

    Returns:
        what OUT/suite.json holds (see `summary`), and "failed": cells that could not be done, and why.

    Raises:
        ValueError: a set, method or protocol that is not known; or OUT holds cells with other settings.
        FileNotFoundError: no model or no data.
    """
    if seeds < 1 or limit is not None and limit < 1:
        raise ValueError(f"seeds and limit must be at least 1; got {seeds} and {limit}")
    if suite not in SUITES:
        raise ValueError(f"no suite {suite!r}; there are: {', '.join(SUITES)}")
    wanted = {one if isinstance(one, str) else one.name: one for one in (SUITES[suite] if chosen is None else chosen)}
    if unknown := sorted({one for one in wanted.values() if isinstance(one, str)} - set(sets.names())):
        raise ValueError(f"no set {', '.join(map(repr, unknown))}; there are: {', '.join(sets.names())}")
    how = [protocol_of(one) for one in protocols]
    for method in methods:
        named(method)
    if any(isinstance(one, str) for one in wanted.values()):
        sets.find(data)
    base, out = load(model), Path(out)
    model_name, weights = name or Path(model).resolve().name, adapter.digest(base)
    failed: list[dict[str, str]] = []
    for set_name, given in wanted.items():
        cells = [
            Cell(model_name, weights, set_name, method, protocol, number, limit, seed)
            for method in methods
            for protocol in how
            for number in range(seed, seed + seeds)
        ]
        left = [cell for cell in cells if not done(out, cell)]
        about = out / "sets" / f"{set_name}.json"
        if not left and about.is_file():
            continue
        try:
            one = (sets.read(given, data, cache) if isinstance(given, str) else given).limited(limit, seed)
        except FileNotFoundError as error:
            if chosen is not None:
                raise
            say(f"{set_name} is left out: {error}")
            continue
        describe(one, about, {"limit": limit, "sample": seed}, baselines, say)
        for cell in left:
            try:
                made = measure(base, one, cell, out, lambda tuned, one=one: beyond(tuned, one), progress, say)
                say(f"{cell.stem}: {one.shown or one.metric} {rounded(made['score'])}")
            except (ValueError, KeyError, TypeError, RuntimeError) as error:
                failed.append({"cell": cell.stem, "why": f"{type(error).__name__}: {error}"})
                say(f"{cell.stem} could not be done: {error}")
            write_atomic(out / "suite.json", json.dumps(summary(out), indent=1))
    found = summary(out)
    if not found["sets"]:
        raise FileNotFoundError(f"none of the sets is in {sets.find(data)}")
    write_atomic(out / "suite.json", json.dumps(found, indent=1))
    return found | {"failed": failed}


def split_named(said: str) -> list[str]:
    """The methods or protocols in one word of a command line: "full,lora:rank=4,alpha=8" are two."""
    found: list[str] = []
    for part in filter(None, said.split(",")):
        if found and "=" in part and ":" not in part:  # a setting of the one before
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def describe(one: TaskSet, path: Path, drawn: dict[str, Any], baselines: bool | Literal["all"], say: Say) -> None:
    """Write what a set is, and its baselines, unless it is there. ValueError if the file is about other examples."""
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["digest"] != one.digest():
            raise ValueError(
                f"{path} is about other examples of {one.name} (another limit, seed or archive): use another folder"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "set": one.name,
        "kind": one.kind,
        "task": one.task.to_dict(),
        "metric": one.metric,
        "shown": one.shown or one.metric,
        "counts": {name: len(x) for name, x in (("train", one.train), ("valid", one.valid), ("test", one.test))},
        "made": one.made,
        "citation": one.citation,
        "licence": one.licence,
        "max_length": one.max_length,
        "digest": one.digest(),
        "said": list(one.said),
        "baselines": simple(one, baselines, say),
    }
    write_atomic(path, json.dumps(about | drawn, indent=1))


def simple(one: TaskSet, which: bool | Literal["all"], say: Say) -> dict[str, Any]:
    """The best constant answer, and what reads words alone and can do the task: the simplest, or "all" of them."""
    labels, spec = label_space(Splits(one.train, one.valid, one.test, one.made), one.task, lambda _: None)
    aim = spec.build(labels)
    found: dict[str, Any] = {"majority": baseline.majority(aim, one.train, one.test)}
    if one.also is not None and one.metric not in found["majority"]:
        # the constant answer of such a task is a list, written as labels are
        found["majority"] |= one.also(aim.constant(one.train.label, len(one.test)))
    specs = usual(frozen=False) if which == "all" else simplest() if which else {}
    tell = lambda line: say(f"{one.name}: {line}")  # noqa: E731
    return found | beside(specs, aim, one.train, one.valid, one.test, None, tell, one.also)


def beyond(tuned: Model, one: TaskSet) -> dict[str, Any]:
    """The scores of a set that its task does not give, for a cell."""
    if one.also is None:
        return {}
    said = tuned.predict(one.test.text, one.test.pair)
    return {"also": one.also([answer.label for answer in said] if isinstance(said, list) else [said.label])}


def summary(out: str | Path) -> dict[str, Any]:
    """All cells of a folder as one table, plain JSON.

    {"sets": name -> what it is, with "baselines"; "rows": one a model, method and protocol: "sets" (name -> the main score's
    "mean", "low", "high", "n", and "degenerate": seeds that are worth nothing, and why), "kinds" (the mean of each kind),
    "aggregate" (over kinds, its interval over seeds; of the sets that it names), "missing": sets without a cell}
    """
    out = Path(out)
    about = {x["set"]: x for x in _held(out / "sets")}
    order = [name for suite in SUITES.values() for name in suite]
    about = {
        name: about[name] for name in sorted(about, key=lambda n: (order.index(n) if n in order else len(order), n))
    }
    return {"sets": about, "rows": rows_of(_held(out / "cells"), about)}


def _held(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))
