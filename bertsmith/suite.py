"""Any encoder on many labelled sets, one table at the end: a model, a method and a protocol over sets and seeds.

A cell is one of each; it is a file, and a cell that is there is not done again. OUT holds

    cells/*.json   the cells         sets/*.json   the sets, with the baselines that are measured once
    suite.json     the table         runs/         what is unfinished

One number of all sets, as BLURB has it: the mean over the kinds of sets of the mean over the sets of a kind, Gu et al. 2020,
arXiv:2007.15779, section 2.3, so that a kind with many sets does not outweigh the others.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from bertsmith import __version__, adapter, baseline, sets
from bertsmith.beside import beside, usual
from bertsmith.doctor import threads
from bertsmith.files import write_atomic
from bertsmith.interval import t_interval
from bertsmith.model import Model, load
from bertsmith.peak import Peak
from bertsmith.recipes.tuning import named
from bertsmith.sets import TaskSet
from bertsmith.splits import Splits, label_space
from bertsmith.table import Say, aloud
from bertsmith.tuning import Tuning, finetune

SUITES = {
    "english": (
        *("sst2", "cola", "trec", "goemotions", "mrpc", "rte", "stsb", "clinc150", "banking77"),
        *("wnut17", "bc5cdr", "ncbi_disease", "conll04", "squad", "inspec", "ud_tags", "ud_trees"),
    )
}


@dataclass(frozen=True)
class Protocol:
    """How a model is tuned in every cell.

    Attributes:
        factors: learning rates that are tried, as multiples of the method's own; with more than one, the best on the valid
            split counts, in the task's main metric, the first of equals.
        whole: what the rate is multiplied with besides where all weights train.
    """

    name: str
    epochs: int = 3
    batch: int = 32
    factors: tuple[float, ...] = (1.0,)
    whole: float = 1.0


SWEEP = 1.0, 1 / 3, 3.0
# Encoders of some ten million parameters want more steps and higher rates than BERT (Turc et al. 2019, arXiv:1908.08962, its
# code: 4 epochs, up to 3e-4).
SMALL = Protocol("small", epochs=4, batch=16, whole=4.0)
PROTOCOLS = {
    one.name: one
    for one in (
        Protocol("fixed"),
        Protocol("sweep", factors=SWEEP),
        SMALL,
        replace(SMALL, name="small_sweep", factors=SWEEP),
    )
}


@dataclass(frozen=True)
class Cell:
    """What one file of results is about.

    Attributes:
        weights: a digest of the model's weights.
        limit: examples to train on at the most; which ones follows from `sample`.
    """

    model: str
    weights: str
    set: str
    method: str
    protocol: Protocol
    seed: int
    limit: int | None
    sample: int

    @property
    def stem(self) -> str:
        """The name of its file without the ending."""
        parts = (self.model, self.set, self.method, self.protocol.name, f"seed{self.seed}")
        return "--".join(re.sub(r"[^\w.=,+-]+", "_", part) for part in parts)

    def asked(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return json.loads(json.dumps(asdict(self)))


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
                say(f"{cell.stem}: {one.shown or one.metric} {_number(made['score'])}")
            except (ValueError, KeyError, TypeError, RuntimeError) as error:
                failed.append({"cell": cell.stem, "why": f"{type(error).__name__}: {error}"})
                say(f"{cell.stem} could not be done: {error}")
            write_atomic(out / "suite.json", json.dumps(summary(out), indent=1))
    found = summary(out)
    if not found["sets"]:
        raise FileNotFoundError(f"none of the sets is in {sets.find(data)}")
    write_atomic(out / "suite.json", json.dumps(found, indent=1))
    return found | {"failed": failed}


def split_methods(said: str) -> list[str]:
    """The methods in one word of a command line: "full,lora:rank=4,alpha=8" are two."""
    found: list[str] = []
    for part in filter(None, said.split(",")):
        if found and "=" in part and ":" not in part:  # a setting of the one before
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def protocol_of(said: str | Protocol) -> Protocol:
    """A protocol by its name. ValueError, listing them, for an unknown one."""
    if isinstance(said, Protocol):
        return said
    if said not in PROTOCOLS:
        raise ValueError(f"no protocol {said!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[said]


def done(out: Path, cell: Cell) -> bool:
    """Whether OUT has the cell. ValueError if its file is about other weights or settings."""
    path = out / "cells" / f"{cell.stem}.json"
    if not path.is_file():
        return False
    held, asked = json.loads(path.read_text(encoding="utf-8"))["asked"], cell.asked()
    if odd := [key for key in asked if held.get(key) != asked[key]]:
        raise ValueError(
            f"{path} was made with another {', '.join(odd)} ({odd[0]} {held.get(odd[0])}, not {asked[odd[0]]}): use another "
            "folder, or another name for the model"
        )
    return True


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
    """The best constant answer, and what reads words alone and can do the task: TF-IDF, or "all" of them."""
    labels, spec = label_space(Splits(one.train, one.valid, one.test, one.made), one.task, lambda _: None)
    aim = spec.build(labels)
    found: dict[str, Any] = {"majority": baseline.majority(aim, one.train, one.test)}
    if one.also is not None and one.metric not in found["majority"]:
        # the constant answer of such a task is a list, written as labels are
        found["majority"] |= one.also(aim.constant(one.train.label, len(one.test)))
    specs = usual(frozen=False) if which == "all" else {"tfidf": baseline.baseline("linear")} if which else {}
    return found | beside(specs, aim, one.train, one.valid, one.test, None, lambda line: say(f"{one.name}: {line}"))


def beyond(tuned: Model, one: TaskSet) -> dict[str, Any]:
    """The scores of a set that its task does not give, for a cell."""
    if one.also is None:
        return {}
    said = tuned.predict(one.test.text, one.test.pair)
    return {"also": one.also([answer.label for answer in said] if isinstance(said, list) else [said.label])}


def measure(
    base: Model,
    one: TaskSet,
    cell: Cell,
    out: Path,
    then: Callable[[Model], dict[str, Any]],
    progress: bool,
    say: Say,
) -> dict[str, Any]:
    """Do a cell, and write its file; `then` measures what else is wanted of the tuned model, for the cell.

    Of trials the test scores are not kept: one is chosen by the valid split, and its test scores are the cell's.
    """
    asked = cell.asked()
    mark = hashlib.blake2b(json.dumps([asked, one.digest()]).encode(), digest_size=4).hexdigest()
    runs, cells = out / "runs", out / "cells"
    for folder in (runs, cells):
        folder.mkdir(parents=True, exist_ok=True)
    went_on = any(runs.glob(f"{cell.stem}--{mark}--*"))
    begin = time.monotonic()
    with Peak() as peak:
        found = {"asked": asked, "metric": one.metric} | _trials(base, one, cell, runs, mark, then, progress, say)
    # of work that was interrupted the time of the last call says nothing
    found["seconds"] = None if went_on else time.monotonic() - begin
    found |= {"memory": peak.memory, "memory_before": peak.before, "device_memory": peak.device_memory}
    found["machine"] = machine()
    write_atomic(cells / f"{cell.stem}.json", json.dumps(found, indent=1))
    for left in runs.glob(f"{cell.stem}--*"):
        shutil.rmtree(left)
    return found


def _trials(
    base: Model,
    one: TaskSet,
    cell: Cell,
    runs: Path,
    mark: str,
    then: Callable[[Model], dict[str, Any]],
    progress: bool,
    say: Say,
) -> dict[str, Any]:
    """What a cell says of its trials, and of the model that is the best of them."""
    how = named(cell.method)
    trials: list[dict[str, Any]] = []
    best: tuple[int, Model, Path] | None = None
    for number, factor in enumerate(cell.protocol.factors):
        place = runs / f"{cell.stem}--{mark}--{number}"
        rate = factor * how.lr * (1.0 if how.partial else cell.protocol.whole)
        tuned, trial = _trial(base, one, cell, how, rate, place, progress, say)
        trials.append(trial)
        if tuned is not None and (best is None or _beats(tuned, trial["valid"], trials[best[0]]["valid"])):
            best = number, tuned, place
    if best is None:
        return {"trials": trials, "score": None, "test": {}, "degenerate": trials[0]["diverged"]}
    number, tuned, place = best
    tuned.max_length = min(tuned.max_length, one.max_length)
    result, more = tuned.report["seeds"][0], then(tuned)
    test = result["test"] | more.pop("also", {})
    if one.metric not in test:
        raise ValueError(f"the set {one.name} names {one.metric!r} as its score; measured were: {', '.join(test)}")
    return {
        "trials": trials,
        "score": test[one.metric],
        "test": test,
        "lr": trials[number]["lr"],
        "chosen_epoch": result["chosen_epoch"],
        "epochs": result["epochs"],
        "degenerate": result["degenerate"],
        "cut": [line for line in tuned.report["said"] if " cut" in line],
        **_size(tuned, base, how, cell.protocol.epochs, place),
        **more,
    }


def _trial(
    base: Model, one: TaskSet, cell: Cell, how: Tuning, lr: float, place: Path, progress: bool, say: Say
) -> tuple[Model | None, dict[str, Any]]:
    """(the model tuned at one learning rate, {"lr", "valid"}); None where the numbers went bad, and "diverged" says how."""
    if (place / "report.json").is_file():  # an earlier call came as far as this
        tuned = load(place)
    else:
        try:
            tuned = finetune(
                base,
                one.train,
                out=place,
                valid=one.valid,
                test=one.test,
                seeds=1,
                seed=cell.seed,
                epochs=cell.protocol.epochs,
                batch=cell.protocol.batch,
                lr=lr,
                max_length=one.max_length,
                progress=progress,
                task=one.task,
                baselines=False,
                tuning=how,
                say=say,
            )
        except FloatingPointError as error:
            return None, {"lr": lr, "valid": None, "diverged": f"diverged: {error}"}
    result = tuned.report["seeds"][0]
    return tuned, {"lr": lr, "valid": result["epochs"][result["chosen_epoch"] - 1][tuned.report["metric"]]}


def _beats(tuned: Model, new: float | None, old: float | None) -> bool:
    assert tuned.task is not None
    return tuned.task.build(tuned.labels).metrics().better(new, old)


def _size(tuned: Model, base: Model, how: Tuning, epochs: int, place: Path) -> dict[str, int]:
    """How many numbers were trained, of how many, and the bytes that the task has for itself on disk."""
    selects = [how.select[min(epoch, len(how.select) - 1)].build() for epoch in range(epochs)]
    trained = whole = 0
    for path, parameter in tuned.bundle.named_parameters():
        name = f"objective.{path}" if path.startswith("head.") else path  # as the loop calls it
        trained += parameter.numel() * any(select(name, parameter) for select in selects)
        whole += parameter.numel()
    files = [place / "model.safetensors"]
    if how.partial:
        adapter.save(tuned, base, place / "adapter")
        files = [place / "adapter" / file for file in adapter.FILES]
    return {"trained": trained, "parameters": whole, "bytes": sum(file.stat().st_size for file in files)}


def machine() -> dict[str, Any]:
    """What a cell was done with."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"bertsmith": __version__, "torch": torch.__version__, "device": device, "threads": threads()}


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
    rows: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for cell in _held(out / "cells"):
        asked = cell["asked"]
        row = rows.setdefault((asked["model"], asked["method"], asked["protocol"]["name"]), {})
        row.setdefault(asked["set"], []).append(cell)
    return {"sets": about, "rows": [_row(key, rows[key], about) for key in sorted(rows)]}


def _held(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _row(key: tuple[str, str, str], of: dict[str, list[dict[str, Any]]], about: dict[str, Any]) -> dict[str, Any]:
    model, method, protocol = key
    there = {name: sorted(of[name], key=lambda cell: cell["asked"]["seed"]) for name in about if name in of}
    first = next(iter(there.values()))[0]["asked"] if there else {}
    found: dict[str, Any] = {"model": model, "method": method, "protocol": protocol, "settings": first.get("protocol")}
    found["sets"] = {name: _entry(cells, about[name]) for name, cells in there.items()}
    scores = {name: {cell["asked"]["seed"]: cell["score"] for cell in cells} for name, cells in there.items()}
    shared = sorted(set.intersection(*(set(x) for x in scores.values()))) if scores else []
    kinds = [_kinds({name: scores[name][seed] for name in scores}, about) for seed in shared]
    found["kinds"] = {kind: _mean([one[kind] for one in kinds]) for kind in (kinds[0] if kinds else {})}
    found["aggregate"] = t_interval([_mean(list(one.values())) for one in kinds]) | {"sets": list(there)}
    found["missing"] = [name for name in about if name not in there]
    return found


def _entry(cells: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """One set in a row."""
    found: dict[str, Any] = {"metric": about["shown"], **t_interval([cell["score"] for cell in cells])}
    found["seeds"] = {str(cell["asked"]["seed"]): cell["score"] for cell in cells}
    found["degenerate"] = {str(cell["asked"]["seed"]): cell["degenerate"] for cell in cells if cell["degenerate"]}
    names = dict.fromkeys(name for cell in cells for name in cell["test"])
    found["test"] = {name: _mean([cell["test"].get(name) for cell in cells]) for name in names}
    found["seconds"] = _mean([cell["seconds"] for cell in cells])
    found["trials"] = sum(len(cell["trials"]) for cell in cells)
    for name in ("trained", "parameters", "bytes"):
        found[name] = next((cell[name] for cell in cells if name in cell), None)
    for name in ("memory", "device_memory"):
        found[name] = max((cell[name] for cell in cells if cell[name] is not None), default=None)
    return found


def _kinds(score: dict[str, float | None], about: dict[str, Any]) -> dict[str, float | None]:
    """The mean over the sets of each kind."""
    names = dict.fromkeys(about[name]["kind"] for name in score)
    return {kind: _mean([score[name] for name in score if about[name]["kind"] == kind]) for kind in names}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is not defined."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def markdown(found: dict[str, Any]) -> str:
    """A summary as a table: a line a set, a column a row of the summary, beside the baselines. Turned, where there are more
    rows than sets, with what each row costs."""
    rows = found["rows"]
    if len(rows) > max(len(found["sets"]), 3):
        return _turned(found)
    titles = [f"{row['model']}, {row['method']}, {row['protocol']}" for row in rows]
    lines = [_line(["set", "score", "majority", "TF-IDF", *titles]), _line(["---"] * (4 + len(rows)))]
    for name, about in found["sets"].items():
        said = [shown(row["sets"][name]) if name in row["sets"] else "" for row in rows]
        lines.append(_line([name, about["shown"], *(_simple(about, which) for which in ("majority", "tfidf")), *said]))
    lines.append(_line(["all", "mean of kinds", "", "", *(shown(row["aggregate"]) for row in rows)]))
    return "\n".join(lines)


COSTS = ("trained numbers", "seconds", "peak memory, MB", "file, MB")


def _turned(found: dict[str, Any]) -> str:
    """A line a row of the summary, best first, a column a set; seconds are of all sets, one seed."""
    titles = [f"{name} ({about['shown']})" for name, about in found["sets"].items()]
    lines = [_line(["model", "method", "protocol", *titles, "all", *COSTS])]
    lines.append(_line(["---"] * (4 + len(titles) + len(COSTS))))
    for which, title in (("majority", "majority"), ("tfidf", "TF-IDF")):
        said = [_simple(about, which) for about in found["sets"].values()]
        lines.append(_line(["", title, "", *said, *[""] * (1 + len(COSTS))]))
    for row in sorted(found["rows"], key=lambda row: -(row["aggregate"]["mean"] or 0)):
        there = row["sets"].values()
        said = [shown(row["sets"][name]) if name in row["sets"] else "" for name in found["sets"]]
        seconds, most = (
            [one["seconds"] for one in there],
            {k: [one[k] for one in there] for k in ("trained", "memory", "bytes")},
        )
        cost = [f"{max(most['trained']):,}", "" if None in seconds else f"{sum(seconds):.0f}"]
        cost += [f"{max(most['memory']) / 1e6:,.0f}", f"{max(most['bytes']) / 1e6:.2f}"]
        lines.append(_line([row["model"], row["method"], row["protocol"], *said, shown(row["aggregate"]), *cost]))
    return "\n".join(lines)


def _simple(about: dict[str, Any], which: str) -> str:
    """A baseline's score of a set, "" where it has none."""
    value = about["baselines"].get(which, {}).get(about["metric"])
    return "" if value is None else f"{value:.3f}"


def shown(value: dict[str, Any]) -> str:
    """A mean with its interval, and how many of its runs are worth nothing."""
    said = _number(value["mean"])
    if value["low"] is not None:
        said += f" [{value['low']:.3f}, {value['high']:.3f}]"
    lost = len(value.get("degenerate", ()))
    return said + (f", {lost} of {value['n']} degenerate" if lost else "")


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
