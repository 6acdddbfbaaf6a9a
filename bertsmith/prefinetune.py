"""Several labelled sets learnt at once by one encoder with a head for each: before fine-tuning, or to be used as they are.

`prefinetune` gives the encoder, to be fine-tuned on yet another task: MUPPET, Aghajanyan et al. 2021, arXiv:2101.11038. In one
optimiser step stand batches of several tasks, in proportion to their sizes; losses are on one scale (`objective/multi_task`).
`multitask` gives a model for each set, all on one encoder: MT-BioNER, Khan et al. 2020, arXiv:2001.08904, for sets of texts in
each of which other things are labelled; with `temperature=None` they are visited in turn.

Differs from the papers: heads start anew (MUPPET's too); the last weights are taken, nothing is chosen on a validation split.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertsmith.checkpoint import Trained
from bertsmith.coding import Coder, Row
from bertsmith.data import data as datas
from bertsmith.data.table import write_rows
from bertsmith.draw import draw
from bertsmith.evaluate import score_examples
from bertsmith.jieba import to_text
from bertsmith.learner import build
from bertsmith.linear import load_tensors
from bertsmith.model import Bundle, Model
from bertsmith.objective import objective as objectives
from bertsmith.optim import optim as optims
from bertsmith.schedule import schedule as schedules
from bertsmith.select import select as selects
from bertsmith.several import check_names
from bertsmith.spec import Spec
from bertsmith.splits import Ask, Splits, label_space, make_splits
from bertsmith.table import Say, aloud
from bertsmith.task import Task
from bertsmith.train import Run, Stage, train


@dataclass(frozen=True)
class Together:
    """How several sets are learnt at once. A value.

    Attributes:
        epochs: how often all rows together are read. lr: the peak; it warms up over a tenth of the steps, and falls to 0.
        batch: rows of a batch, all of one task. accumulate: batches in an optimiser step.
        max_length: tokens of a row.
        temperature: a batch is of a set with a probability that goes with (its rows)^(1 / temperature); None: of each in turn.
        tasks, heads, columns: by the name of a set, what its labels are, what stands on the encoder for it, and which columns
            of its table are meant; guessed where they are not given, as `finetune` does.
        outcomes: by name, of how many outcomes it predicts one; counted where not given.
        around: what is made of each objective: `lambda inner: objective("r3f", inner=inner)`.
        optim, select: the optimiser (its lr is replaced), and what trains.
    """

    epochs: float = 3
    lr: float = 5e-5
    batch: int = 32
    accumulate: int = 4
    max_length: int = 128
    temperature: float | None = 1.0
    tasks: Mapping[str, Spec] = field(default_factory=dict)
    heads: Mapping[str, Spec] = field(default_factory=dict)
    columns: Mapping[str, Ask] = field(default_factory=dict)
    outcomes: Mapping[str, float] = field(default_factory=dict)
    around: Callable[[Spec], Spec] = lambda inner: inner
    optim: Spec = field(default_factory=lambda: optims("adamw"))
    select: Spec = field(default_factory=lambda: selects("paths"))
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """One of the sets, ready to be learnt."""

    splits: Splits
    task: Spec
    labels: list[str]
    objective: Spec
    path: Path
    rows: int
    outcomes: float

    @property
    def aim(self) -> Task:
        """The task, built."""
        return self.task.build(self.labels)


def prefinetune(
    model: Model,
    sources: Mapping[str, Any],
    how: Together | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    say: Say = aloud,
) -> Model:
    """A copy of `model` whose encoder has learnt some tasks, without a head: `finetune` it on another one.

    Args:
        sources: by name, tables and whatever else `finetune` takes, or `Splits`. Of what is no `Splits` a tenth each is cut
            off to be measured on.
        out: a folder for the model; a killed call, repeated, goes on where it was. None: nothing is kept on disk.

    Returns:
        The model; its report has "prefinetuned": for each set the metrics before it was thrown away with its head.

    Raises:
        ValueError or KeyError, naming the set, file, column or label, where one does not serve.
    """
    with _work(out) as work:
        models = _learn(model, sources, how or Together(), work, progress, say)
        first = next(iter(models.values()))
        bare = Model(
            first.spec,
            Bundle(first.encoder, None),
            model.tokenizer,
            pooling=model.pooling,
            max_length=model.max_length,
            report={"prefinetuned": {name: one.report for name, one in models.items()}},
        )
        if out is not None:
            bare.save(out)
    return bare


def multitask(
    model: Model,
    sources: Mapping[str, Any],
    how: Together | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    say: Say = aloud,
) -> dict[str, Model]:
    """For each set a model that predicts; all of them hold the same encoder, a trained copy of that of `model`.

    Args, Raises: those of `prefinetune`; each model is saved in a folder of its own in `out`.

    Returns:
        The models by name; the report of each has "task", "labels", "metric", "valid", "test", "splits", "said", "together".
    """
    with _work(out) as work:
        models = _learn(model, sources, how or Together(), work, progress, say)
        for name, one in models.items() if out is not None else ():
            one.save(Path(out or "") / name)
    return models


@contextmanager
def _work(out: str | Path | None) -> Iterator[Path]:
    """A folder for the run, which is gone when what was asked for is written."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="bertsmith-") as folder:
            yield Path(folder)
        return
    work = Path(out).resolve().with_name(Path(out).name + ".work")  # its run holds this path, however it is said
    work.mkdir(parents=True, exist_ok=True)
    yield work
    shutil.rmtree(work)


def _learn(
    model: Model, sources: Mapping[str, Any], how: Together, work: Path, progress: bool, say: Say
) -> dict[str, Model]:
    check_names(sources, "sources")
    given = {"tasks": how.tasks, "heads": how.heads, "columns": how.columns, "outcomes": how.outcomes}
    for what, named in given.items():
        if unknown := sorted(set(named) - set(sources)):
            raise ValueError(f"{what} of {', '.join(unknown)}, but the sets are: {', '.join(sources)}")
    if min(how.epochs, how.batch, how.accumulate) <= 0:
        raise ValueError(f"epochs, batch and accumulate are above 0; got {how.epochs}, {how.batch}, {how.accumulate}")
    said: dict[str, list[str]] = {name: [] for name in sources}

    def tell(name: str) -> Say:
        def one(line: str) -> None:
            said[name].append(line)
            if progress:
                say(f"{name}: {line}")

        return one

    sets = {name: _read(model, name, sources[name], how, work, tell(name)) for name in sorted(sources)}
    now, objective = _train(model, sets, how, work / "run", progress)
    models = _models(model, now, objective, sets)
    for name, one in models.items():
        one.report = _measured(one, sets[name], how) | {"said": said[name], "together": sorted(sources)}
        tell(name)(f"test {one.report['metric']} {one.report.get('test', {}).get(one.report['metric'])}")
    return models


def _read(model: Model, name: str, source: Any, how: Together, work: Path, tell: Say) -> Prepared:
    """Settle a set's splits, task, labels and head, and write its rows."""
    task = how.tasks.get(name)
    if isinstance(source, Splits):
        splits = source
        if task is None:
            raise ValueError(f"{name}: splits do not say what their labels are; give tasks={{{name!r}: task(...)}}")
    else:
        splits, task = make_splits(source, None, None, how.columns.get(name, Ask()), task, how.seed, tell)
    labels, task = label_space(splits, task, tell)
    aim = task.build(labels)
    train, longest = splits.train, min(how.max_length, model.max_length)
    coder = Coder(model.tokenizer, longest)
    rows = aim.rows(coder, train.text, train.pair, train.label)
    if coder.cut:
        tell(f"{coder.cut} of {len(train)} training texts are longer than max_length={longest} and are cut")
    # another set, or another model, is another file, so that a run is never continued on what it was not begun with
    path = work / f"{name}-{_digest(model, [train.text, train.pair, train.label], task, longest)}.safetensors"
    if not path.exists():
        write_rows(path, rows, aim.fields)
    head = how.heads.get(name) or model.usual_head(aim)
    objective = how.around(objectives("supervised", head=head, task=task, labels=labels))
    count = how.outcomes.get(name) or _outcomes(aim, rows)
    return Prepared(splits, task, labels, objective, path, len(rows), count)


def _outcomes(aim: Task, rows: list[Row]) -> float:
    """Of how many outcomes one is predicted; 1 where numbers are, so that their loss is as it is."""
    target = [row.target["target"] for row in rows if "target" in row.target]
    if not target or aim.fields.get("target") != "row":
        return max(2, aim.outputs)
    if target[0].is_floating_point():
        return 2 if all(bool(((t == 0) | (t == 1)).all()) for t in target) else 1
    if target[0].dim():  # places in the text
        return max(map(len, rows))
    return aim.outputs if aim.outputs > 1 else max(len(row.codes) for row in rows)


def _train(model: Model, sets: dict[str, Prepared], how: Together, run: Path, progress: bool) -> tuple[Trained, Spec]:
    """(what was trained, its objective)."""
    objective = objectives(
        "multi_task",
        tasks={name: one.objective for name, one in sets.items()},
        outcomes={name: one.outcomes for name, one in sets.items()},
    )
    sources = {
        name: datas("table", path=str(one.path), rows=how.batch, seed=draw(how.seed, "set", name))
        for name, one in sets.items()
    }
    if how.temperature is None:
        mixed = datas("cycle", sources=sources)
    else:
        share = {name: one.rows for name, one in sets.items()}
        mixed = datas("mixture", sources=sources, share=share, temperature=how.temperature, seed=how.seed)
    batches = sum(math.ceil(one.rows / how.batch) for one in sets.values())
    stage = Stage(
        objective,
        mixed,
        budget=f"{max(1, math.ceil(how.epochs * batches / how.accumulate))}-steps",
        optim=how.optim.replace("lr", how.lr),
        schedule=schedules("linear", warmup=0.1),
        select=how.select,
        accumulate=how.accumulate,
    )
    spec = Run(model.spec, [stage], seed=how.seed, workers=0, save_seconds=600.0)
    return train(spec, run, start=model.trained(), progress=progress), objective


def _models(model: Model, now: Trained, objective: Spec, sets: dict[str, Prepared]) -> dict[str, Model]:
    learner = build(now.encoder, now.changes, objective, 0, known=now.tensors)
    load_tensors(learner, now.tensors)
    parts: Any = learner.objective.tasks
    return {
        name: Model(
            now.encoder,
            Bundle(learner.encoder, parts[name].head),
            model.tokenizer,
            parts[name].head_spec,
            one.task,
            one.labels,
            pooling=model.pooling,
            max_length=model.max_length,
        )
        for name, one in sets.items()
    }


def _measured(model: Model, one: Prepared, how: Together) -> dict[str, Any]:
    """The report of one set, as plain JSON."""
    aim, splits = one.aim, one.splits
    parts = {"valid": splits.valid, "test": splits.test}
    found = {part: score_examples(model, aim, x, how.max_length).value() for part, x in parts.items() if len(x)}
    sizes = {"train": len(splits.train), "valid": len(splits.valid), "test": len(splits.test), "made": splits.made}
    return {"task": one.task.to_dict(), "labels": one.labels, "metric": aim.metrics().main, "splits": sizes} | found


def _digest(model: Model, examples: list[Any], task: Spec, longest: int) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.trained().tensors.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    digest.update(json.dumps([examples, task.to_dict(), longest, to_text(model.tokenizer)], default=str).encode())
    return digest.hexdigest()
