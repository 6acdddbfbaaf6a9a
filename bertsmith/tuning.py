"""Fine-tuning: an encoder and a table of labelled texts in, a model that predicts and an honest report out.

BERT, Devlin et al. 2018, arXiv:1810.04805, section 3.2 and appendix A.3. The training is `train.train`: one stage
an epoch, so that each epoch's weights can be looked at on the validation split. Nothing is chosen on the split that
is reported: the epoch, and the seed whose model is kept, are those that are best on the validation split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from bertsmith import baseline
from bertsmith.checkpoint import Trained
from bertsmith.data import data as datas
from bertsmith.data.table import write_rows
from bertsmith.draw import draw
from bertsmith.evaluate import score_examples
from bertsmith.examples import Examples, guess_task, take_examples
from bertsmith.files import write_atomic
from bertsmith.head import head as heads
from bertsmith.interval import t_interval
from bertsmith.model import Model
from bertsmith.objective import objective as objectives
from bertsmith.optim import optim as optims
from bertsmith.pool import pool as pools
from bertsmith.schedule import schedule as schedules
from bertsmith.spec import Spec
from bertsmith.split import cut
from bertsmith.table import Say, aloud, guess, read_table
from bertsmith.task import Task
from bertsmith.task import task as tasks
from bertsmith.train import Run, Stage, train

SHARE = 0.1  # of the rows, for each of valid and test, where they are not given
FEWEST = 10  # rows from which splits can be made


@dataclass(frozen=True)
class Splits:
    """The three sets of examples, and how they came about, in words."""

    train: Examples
    valid: Examples
    test: Examples
    made: str


def finetune(
    model: Model,
    source: Any,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    out: str | Path | None = None,
    valid: Any = None,
    test: Any = None,
    seeds: int = 1,
    epochs: int = 3,
    lr: float = 5e-5,
    batch: int = 32,
    max_length: int = 128,
    progress: bool = True,
    task: Spec | None = None,
    head: Spec | None = None,
    seed: int = 0,
    baselines: bool = True,
    say: Say = aloud,
) -> Model:
    """Train a copy of `model`, with a new head, on a table; `model` itself is never changed.

    Args:
        source, valid, test: tables, as `read_table` takes them. Splits that are not given are cut from `source`, a
        tenth each, by a hash
            of the text (stratified by label where there is one label), and this is said.
        text, pair, label: the names of the columns; guessed, aloud, where they are None.
        out: a folder for the model and its report; a killed call, repeated, goes on where it was. None: nothing is
        kept on disk.
        seeds: how many runs, with seeds `seed`, `seed` + 1, ...; the report has their mean with a 95 % t-interval.
        lr: peak learning rate; it warms up over a tenth of the steps and falls linearly to 0.
        batch: rows of a batch. max_length: tokens of a row; longer texts are cut, and counted aloud.
        task: what the labels are, such as `task("single_label", main="matthews")`; guessed from them where None.
        head: by default `head/linear` on `pool/bert`.
        baselines: also the majority and TF-IDF baselines on the same splits.

    Returns:
        The model of the seed that is best on the validation split, with `labels` and `report`: plain JSON with "task",
        "metric" (the main one), "test" (mean and interval of each metric), "seeds" (epochs, chosen epoch, test metrics,
        and "degenerate": why a run is worth nothing, or None), "baselines", "splits", "settings", "said".

    Raises:
        ValueError or KeyError, naming the file, column or label, where the table does not serve.
    """
    if seeds < 1 or epochs < 1 or batch < 1:
        raise ValueError(f"seeds, epochs and batch must be at least 1; got {seeds}, {epochs}, {batch}")
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if progress:
            say(line)

    splits, task = _splits(source, valid, test, text, pair, label, task, seed, tell)
    labels, task = _label_space(splits, task, tell)
    aim = task.build(labels)
    objective = objectives("supervised", head=head or heads("linear", pool=pools("bert")), task=task, labels=labels)
    settings = {"epochs": epochs, "lr": lr, "batch": batch, "max_length": max_length, "seed": seed, "seeds": seeds}
    found = (
        _baselines(aim, splits, tell) if baselines else {"majority": baseline.majority(aim, splits.train, splits.test)}
    )
    with ExitStack() as stack:
        if out is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertsmith-")))
        else:
            work = Path(out).with_name(Path(out).name + ".work")
            _claim(work, _fingerprint(model, splits, objective, settings), tell)
        rows = _write(model, aim, splits.train, max_length, work / "train.safetensors", tell)
        best: tuple[float | None, Model] | None = None
        results = []
        for number in range(seed, seed + seeds):
            stages = _stages(objective, work, rows, number, epochs, lr, batch)
            result, tuned = _one_seed(model, task, labels, splits, stages, number, max_length, work, progress, tell)
            result["degenerate"] = _degenerate(aim, result, found["majority"])
            if result["degenerate"]:
                tell(f"seed {number}: degenerate: {result['degenerate']}")
            results.append(result)
            on_valid = result["epochs"][result["chosen_epoch"] - 1][aim.metrics().main]
            if best is None or aim.metrics().better(on_valid, best[0]):
                best = on_valid, tuned
        assert best is not None
        final = best[1]
        final.pooling, final.max_length = model.pooling, model.max_length
        _fold(final)
        final.report = _report(aim, task, labels, splits, settings, results, found, said)
        _summary(final.report, tell)
        if out is not None:
            final.save(out)
            write_atomic(Path(out) / "report.json", json.dumps(final.report, indent=1))
            shutil.rmtree(work)
    return final


def _splits(
    source: Any,
    valid: Any,
    test: Any,
    text: str | None,
    pair: str | None,
    label: str | None,
    task: Spec | None,
    seed: int,
    tell: Say,
) -> tuple[Splits, Spec]:
    """Read the tables, settle columns and task, and cut what splits are not given."""
    table = read_table(source, say=tell)
    columns = guess(table, text, pair, label, tell)
    if task is None:
        task = guess_task(table.column(columns[2]))
        tell(f"{table.name}: task guessed from {columns[2]!r}: {task.kind}")
    several = task.kind == "multi_label"
    train = take_examples(table, *columns, unlabelled=several, say=tell)
    given = {
        name: take_examples(read_table(one, say=tell), *columns, unlabelled=several, say=tell)
        for name, one in (("valid", valid), ("test", test))
        if one is not None
    }
    made = "splits as given"
    if missing := [name for name in ("test", "valid") if name not in given]:
        if len(train) < FEWEST:
            raise ValueError(
                f"{table.name} has {len(train)} rows: too few to split; give valid= and test=, or {FEWEST} rows"
            )
        for name in missing:
            share = SHARE if len(missing) == 1 or name == "test" else SHARE / (1 - SHARE)
            classes = [str(x) for x in train.label] if task.kind == "single_label" else None
            kept, off = cut(train.keys(), classes, share, seed, name)
            if not off:
                raise ValueError(f"{table.name}: too few rows of each label to cut off a {name} split; give {name}=")
            given[name], train = train.take(off), train.take(kept)
        made = f"{' and '.join(missing)} cut from the table by a hash of the text (seed {seed})"
        made += ", stratified by label" if task.kind == "single_label" else ""
    splits = Splits(train, given["valid"], given["test"], made)
    tell(f"splits: {len(train)} train, {len(splits.valid)} valid, {len(splits.test)} test; {made}")
    known = set(train.keys())
    if leaked := sum(key in known for key in splits.test.keys()):
        tell(f"{leaked} of {len(splits.test)} test texts also stand in train")
    return splits, task


def _label_space(splits: Splits, task: Spec, tell: Say) -> tuple[list[str], Spec]:
    """The label names over all splits; for a regression, the task scaled to the training targets."""
    blank = task.build([])
    labels = blank.names([*splits.train.label, *splits.valid.label, *splits.test.label])
    if task.kind == "regression":
        y = blank.encode(splits.train.label).double()
        return labels, tasks("regression", mean=float(y.mean()), scale=float(y.std(correction=0)) or 1.0)
    if len(labels) < 2:
        raise ValueError(
            f"there is only one label, {labels[0]!r}: nothing to learn" if labels else "no row has a label"
        )
    if unseen := sorted(set(labels) - set(blank.names(splits.train.label))):
        tell(f"labels that never occur in train: {', '.join(map(repr, unseen[:10]))}")
    return labels, task


def _baselines(aim: Task, splits: Splits, tell: Say) -> dict[str, Any]:
    """Majority and TF-IDF on the test split."""
    found: dict[str, Any] = {"majority": baseline.majority(aim, splits.train, splits.test)}
    try:
        found["tfidf"] = baseline.tfidf(aim, splits.train, splits.valid, splits.test)
    except ImportError:
        tell("no TF-IDF baseline: scikit-learn is not installed")
    return found


def _write(model: Model, aim: Task, train: Examples, max_length: int, path: Path, tell: Say) -> int:
    """Tokenise the training rows to `path`; how many there are."""
    token: list[torch.Tensor] = [torch.empty(0)] * len(train)
    types = list(token)
    for rows, token_BT, layout in model.tokens(train.text, train.pair, max_length):
        for row, length, at in zip(rows, layout.real_BT.sum(1).tolist(), range(len(rows)), strict=True):
            token[row] = token_BT[at, :length].cpu()
            types[row] = token[row].new_zeros(length) if layout.type_BT is None else layout.type_BT[at, :length].cpu()
    if model.cut:
        tell(f"{model.cut} of {len(train)} training texts are longer than max_length={max_length} and are cut")
    write_rows(path, token, types, aim.encode(train.label))
    return len(train)


def _fingerprint(model: Model, splits: Splits, objective: Spec, settings: dict[str, Any]) -> str:
    """What a call would do, as a digest: its encoder, examples, objective and settings (the number of seeds aside)."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.trained().tensors.items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    parts = [[x.text, x.pair, x.label] for x in (splits.train, splits.valid, splits.test)]
    plain = [model.spec.to_dict(), objective.to_dict(), parts, settings | {"seeds": 0}]
    digest.update(json.dumps(plain, default=str).encode())
    return digest.hexdigest()


def _claim(work: Path, fingerprint: str, tell: Say) -> None:
    """Go on in the folder of an interrupted call that did the same; what another call left there is removed, aloud."""
    mark = work / "fingerprint"
    if work.exists() and not mark.is_file():
        raise ValueError(f"{work} is in the way and is not bertsmith's: remove it, or choose another out")
    if work.exists() and mark.read_text(encoding="utf-8") != fingerprint:
        tell(f"{work} is left from another call that was interrupted; it is removed")
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_atomic(mark, fingerprint)


def _stages(objective: Spec, work: Path, rows: int, seed: int, epochs: int, lr: float, batch: int) -> list[Stage]:
    """One stage an epoch; together they follow one schedule."""
    steps, whole = -(-rows // batch), schedules("linear", warmup=0.1)
    return [
        Stage(
            objective,
            datas("table", path=str(work / "train.safetensors"), rows=batch, seed=draw(seed, "epoch", epoch)),
            budget=f"{steps}-steps",
            optim=optims("adamw", lr=lr),
            schedule=schedules("part", inner=whole, begin=epoch / epochs, end=(epoch + 1) / epochs),
        )
        for epoch in range(epochs)
    ]


def _start(model: Model, objective: Spec) -> Trained:
    """The encoder to begin with, and its pooler if it has the one that the new head wants (as BERT does)."""
    start, wanted = model.trained(), objective.args["head"].args.get("pool")
    if model.head_spec is not None and wanted is not None and model.head_spec.args.get("pool") == wanted:
        pool = model.head.pool.state_dict()
        start.tensors |= {f"objective.head.pool.{name}": value.float().cpu().clone() for name, value in pool.items()}
    return start


def _one_seed(
    model: Model,
    task: Spec,
    labels: list[str],
    splits: Splits,
    stages: list[Stage],
    seed: int,
    max_length: int,
    work: Path,
    progress: bool,
    tell: Say,
) -> tuple[dict[str, Any], Model]:
    """Train with one seed; (its part of the report, its model at the epoch that is best on the validation split)."""
    aim, objective = task.build(labels), stages[0].objective
    folder, done = work / f"seed-{seed}", work / f"seed-{seed}.json"

    def as_model(now: Trained) -> Model:
        return Model.of(now, objective, model.tokenizer, task, labels)

    start = _start(model, objective)
    if done.exists():  # an earlier call finished this seed
        held = load_file(work / f"seed-{seed}.safetensors")
        return json.loads(done.read_text()), as_model(replace(start, tensors=held))
    now, looks, best = start, [], None
    chosen = 0
    for epoch in range(len(stages)):
        run = Run(model.spec, stages[: epoch + 1], seed=seed, workers=0, save_seconds=600.0)
        now = train(run, folder / f"epoch-{epoch + 1}", start=replace(now, log=0), progress=progress)
        tuned = as_model(now)
        look = score_examples(tuned, aim, splits.valid, max_length)
        looks.append(look.value())
        tell(f"seed {seed}, epoch {epoch + 1}/{len(stages)}: valid {_line(looks[-1])}")
        if best is None or look.better(looks[-1][look.main], looks[chosen - 1][look.main]):
            best, chosen = tuned, epoch + 1
            kept = {k: v.contiguous() for k, v in now.tensors.items()}
    assert best is not None
    scores = score_examples(best, aim, splits.test, max_length)
    result = {
        "seed": seed,
        "epochs": looks,
        "chosen_epoch": chosen,
        "test": scores.value(),
        "constant": scores.constant,
    }
    tell(f"seed {seed}: epoch {chosen} is best on valid; test {_line(result['test'])}")
    write_atomic(work / f"seed-{seed}.safetensors", save(kept))
    write_atomic(done, json.dumps(result))
    shutil.rmtree(folder)
    return result, best


@torch.no_grad()
def _fold(model: Model) -> None:
    """A regression's mean and scale into its head's weights, so that other libraries read the same numbers from it."""
    if (
        model.task is not None
        and model.task.kind == "regression"
        and model.head_spec is not None
        and model.head_spec.kind == "linear"
    ):
        mean, scale = model.task.args["mean"], model.task.args["scale"]
        model.head.out.weight.mul_(scale)
        model.head.out.bias.mul_(scale).add_(mean)
        model.task = tasks("regression")


def _degenerate(aim: Task, result: dict[str, Any], majority: dict[str, float | None]) -> str | None:
    """Why a run is worth nothing, in words, or None."""
    if result["constant"]:
        return "it gives the same answer to every test example"
    ours, base = result["test"][aim.floor], majority[aim.floor]
    if not aim.metrics().better(ours, base, aim.floor):
        return f"its test {aim.floor} {_number(ours)} is no better than {_number(base)}, that of one constant answer"
    return None


def _report(
    aim: Task,
    task: Spec,
    labels: list[str],
    splits: Splits,
    settings: dict[str, Any],
    results: list[dict[str, Any]],
    found: dict[str, Any],
    said: list[str],
) -> dict[str, Any]:
    """Everything measured, as plain JSON."""
    names = list(aim.metrics().metrics)
    return {
        "task": task.to_dict(),
        "labels": labels,
        "metric": aim.metrics().main,
        "test": {name: t_interval([r["test"][name] for r in results]) for name in names},
        "seeds": results,
        "degenerate": [r["seed"] for r in results if r["degenerate"]],
        "baselines": found,
        "splits": {
            "train": len(splits.train),
            "valid": len(splits.valid),
            "test": len(splits.test),
            "made": splits.made,
        },
        "settings": settings,
        "said": said,
    }


def _summary(report: dict[str, Any], tell: Say) -> None:
    """The main metric beside its baselines, in one line."""
    name = report["metric"]
    value = report["test"][name]
    line = f"test {name} {_number(value['mean'])}"
    if value["low"] is not None:
        line += f" (95 % interval {_number(value['low'])} to {_number(value['high'])}, {value['n']} seeds)"
    others = [f"{kind} {_number(metrics[name])}" for kind, metrics in report["baselines"].items()]
    tell("; ".join([line, *others]))


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _line(metrics: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in metrics.items())
