"""A cell of a suite: a model tuned on one set by one method and protocol with one seed, and measured.

It is a file, OUT/cells/*.json, and a cell that is there is not done again; OUT/runs holds what is unfinished.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertsmith import __version__, adapter
from bertsmith.doctor import threads
from bertsmith.files import write_atomic
from bertsmith.model import Model, load
from bertsmith.peak import Peak
from bertsmith.recipes.tuning import named
from bertsmith.sets import TaskSet
from bertsmith.table import Say
from bertsmith.tuning import Tuning, finetune


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


def protocol_of(said: str | Protocol) -> Protocol:
    """A protocol by its name, or one of them with other settings: "fixed:epochs=20,batch=2".

    Raises ValueError, listing what there is, for a name or a setting that is not known.
    """
    if isinstance(said, Protocol):
        return said
    name, _, given = said.partition(":")
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    made = replace(PROTOCOLS[name], name=said) if given else PROTOCOLS[name]
    for part in filter(None, given.split(",")):
        key, _, value = part.partition("=")
        try:
            made = replace(made, **{key: {"epochs": int, "batch": int, "whole": float}[key](value)})
        except (KeyError, ValueError):
            raise ValueError(f"{said}: {part!r} is no setting; say epochs=, batch= or whole= and a number") from None
        if getattr(made, key) <= 0:
            raise ValueError(f"{said}: {key} must be above 0")
    return made


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
