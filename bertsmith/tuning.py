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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from bertsmith import baseline
from bertsmith.beside import beside, simplest, usual
from bertsmith.checkpoint import Trained
from bertsmith.coding import Coder
from bertsmith.data import data as datas
from bertsmith.data.table import write_rows
from bertsmith.draw import draw
from bertsmith.evaluate import score_examples
from bertsmith.examine import write_details
from bertsmith.examples import Columns, Examples
from bertsmith.files import write_atomic
from bertsmith.frozen import Frozen
from bertsmith.interval import t_interval
from bertsmith.kernels import undrawn
from bertsmith.linear import apply_changes, leave, places_taken
from bertsmith.model import Model
from bertsmith.objective import objective as objectives
from bertsmith.optim import optim as optims
from bertsmith.pool import pool as pools
from bertsmith.report_tuning import write_tuning_report
from bertsmith.schedule import schedule as schedules
from bertsmith.select import select as selects
from bertsmith.spec import Spec, from_plain, to_plain
from bertsmith.splits import Ask, Splits, label_space, make_splits
from bertsmith.table import Say, aloud
from bertsmith.task import Task
from bertsmith.train import Run, Stage, train

POOLED = {"mean": "the mean of the states", "first": "the first state"}


@dataclass(frozen=True)
class Tuning:
    """What is changed of a model, and what of it trains. A value; `bertsmith.recipes.tuning` has the published ones.

    Attributes:
        changes: edits and grafts, as in a Stage: [{"how": "edit", "where": pattern, "name": str, "spec": Spec}].
        select: what trains, an entry an epoch (the last one for all later epochs).
        optim: the optimiser; its lr is replaced by that of the call.
        lr: peak learning rate where the call names none.
        around: what is made of the objective: `lambda inner: objective("rdrop", inner=inner)`.
        resize: done to the encoder before all else.
        leave: what becomes of the changes at the end: "keep", "bake" (edits, into the weights) or "drop" (what acts in
            training alone).
    """

    changes: list[dict[str, Any]] = field(default_factory=list)
    select: list[Spec] = field(default_factory=lambda: [selects("paths")])
    optim: Spec = field(default_factory=lambda: optims("adamw"))
    lr: float = 5e-5
    around: Callable[[Spec], Spec] = lambda inner: inner
    resize: list[Spec] = field(default_factory=list)
    leave: str = "keep"

    @property
    def partial(self) -> bool:
        """Whether part of the weights stays as it is."""
        return self.select != [selects("paths")]


def finetune(
    model: Model,
    source: Any,
    text: str | None = None,
    pair: Columns | None = None,
    label: Columns | None = None,
    out: str | Path | None = None,
    valid: Any = None,
    test: Any = None,
    seeds: int = 1,
    epochs: int = 3,
    lr: float | None = None,
    batch: int = 32,
    max_length: int = 128,
    progress: bool = True,
    task: Spec | None = None,
    head: Spec | None = None,
    seed: int = 0,
    baselines: bool | Literal["all"] | dict[str, Spec] = True,
    tuning: Tuning | None = None,
    group: str | None = None,
    long: str = "head",
    pool: str = "",
    patience: int = 0,
    say: Say = aloud,
) -> Model:
    """Train a copy of `model`, with a new head, on labelled texts; `model` itself is never changed.

    Args:
        source, valid, test: tables, as `read_table` takes them, or Examples. Splits that are not given are cut from
            `source`, a tenth each, by a hash of the text (stratified by label where there is one label), and this is said.
        text, pair, label: the names of the columns; guessed, aloud, where they are None. Several for `pair` are choices,
            for `label` several numbers.
        out: a folder for the model and its report; a killed call, repeated, goes on where it was. None: nothing is
            kept on disk.
        seeds: how many runs, with seeds `seed`, `seed` + 1, ...; the report has their mean with a 95 % t-interval.
        lr: peak learning rate (None: the tuning's); it warms up over a tenth of the steps and falls linearly to 0.
        batch: rows of a batch. max_length: tokens of a row; longer texts are cut, and counted aloud.
        task: what the labels are, such as `task("single_label", main="matthews")`; guessed from them where None.
        head: by default the task's.
        baselines: beside the majority answer TF-IDF on the same splits (for spans each word's commonest tag); "all": also naive
            Bayes, SVM, forest, gzip, TextCNN, and what reads the frozen encoder's vectors; False: neither; or others, by the
            name that the report gives them.
        tuning: what trains, and what is added for it (LoRA, adapters, ...); all weights where None.
        long: what is kept of longer texts: "head", "tail", "head+tail", or all of it in "pieces", over which the head has a
            `pool/hierarchical`.
        pool: how a head that is not named makes one vector of a text, such as "bert", "mean" or "max". By default as the
            encoder was trained: BERT's pooler where there is a trained one (stock classes of `transformers` have no other),
            else the mean.
        patience: epochs without a better one, on the validation split, after which a run ends early; 0: all are done. The
            rate falls as for all of them.
        group: a column whose equal cells stand on one side of every split that is cut (participants, articles).

    Returns:
        The model of the seed that is best on the validation split, with `labels` and `report`: plain JSON with "task",
        "metric" (the main one), "test" (mean and interval of each metric), "seeds" (epochs, chosen epoch, test metrics,
        and "degenerate": why a run is worth nothing, or None), "baselines", "splits", "settings", "said".

    Raises:
        ValueError or KeyError, naming the file, column or label, where the table does not serve.
    """
    if seeds < 1 or epochs < 1 or batch < 1 or patience < 0:
        raise ValueError(
            f"seeds, epochs and batch must be at least 1, patience 0 or more; got {seeds}, {epochs}, {batch}, {patience}"
        )
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if progress:
            say(line)

    splits, task = make_splits(source, valid, test, Ask(text, pair, label, group), task, seed, tell)
    labels, task = label_space(splits, task, tell)
    aim, how = task.build(labels), tuning or Tuning()
    lr = how.lr if lr is None else lr
    chosen = head or model.usual_head(aim, pool)
    if head is not None and pool:
        chosen = head.replace("pool", pools(pool))
    if head is None and not pool and chosen != aim.head():
        tell(f"the head takes {POOLED[chosen.args['pool'].kind]} of a text: this encoder has no trained pooler")
    if long == "pieces" and aim.fields == {"target": "row"} and chosen.kind == "linear":
        chosen = chosen.replace("pool", pools("hierarchical", pool=chosen.get("pool")))
    objective = how.around(objectives("supervised", head=chosen, task=task, labels=labels))
    settings: dict[str, Any] = {"long": long} if long != "head" else {}
    settings |= {"patience": patience} if patience else {}
    settings |= {"epochs": epochs, "lr": lr, "batch": batch, "max_length": max_length, "seed": seed, "seeds": seeds}
    found = _baselines(model, aim, splits, tell, baselines)
    with ExitStack() as stack:
        if out is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertsmith-")))
        else:
            work = Path(out).resolve()  # in full, for the runs hold it, however it is said
            work = work.with_name(Path(out).name + ".work")
            _claim(work, _fingerprint(model, splits, objective, settings | {"work": str(work)}, how), tell)
        room, apart = _room(model, how, min(max_length, model.max_length)), chosen.slot.load(chosen.kind).apart
        coder = Coder(model.tokenizer, room, long=long, apart=apart)
        rows = _write(coder, aim, splits.train, work / "train.safetensors", tell)
        best: tuple[float | None, Model] | None = None
        results = []
        for number in range(seed, seed + seeds):
            stages = _stages(objective, how, work, rows, number, epochs, lr, batch)
            result, tuned = _one_seed(
                model, task, labels, splits, stages, number, max_length, long, patience, work, progress, tell
            )
            result["degenerate"] = _degenerate(aim, result, found["majority"])
            if result["degenerate"]:
                tell(f"seed {number}: degenerate: {result['degenerate']}")
            results.append(result)
            on_valid = result["epochs"][result["chosen_epoch"] - 1][aim.metrics().main]
            if best is None or aim.metrics().better(on_valid, best[0]):
                best = on_valid, tuned
        assert best is not None
        final = best[1]
        final.pooling, final.max_length = model.pooling, min(model.max_length, final.max_length)
        leave(final.encoder, how.changes, how.leave)
        _fold(final)
        final.report = _report(aim, task, labels, splits, settings, results, found, said)
        _summary(final.report, tell)
        if out is not None:
            final.save(out)
            write_atomic(Path(out) / "report.json", json.dumps(final.report, indent=1))
            write_details(out, final, splits.test, max_length)
            write_tuning_report(out)
            shutil.rmtree(work)
    return final


def _baselines(
    model: Model, aim: Task, splits: Splits, tell: Say, which: bool | Literal["all"] | dict[str, Spec]
) -> dict[str, Any]:
    """The best constant answer and, as far as they can do the task, the baselines that are asked for, on the test split."""
    found: dict[str, Any] = {"majority": baseline.majority(aim, splits.train, splits.test)}
    if which:
        specs = which if isinstance(which, dict) else simplest() if which is True else usual()
        try:
            found |= beside(specs, aim, splits.train, splits.valid, splits.test, Frozen(model), tell)
        except ImportError:
            tell("no baselines: scikit-learn is not installed")
    return found


def _write(coder: Coder, aim: Task, train: Examples, path: Path, tell: Say) -> int:
    """Tokenise the training examples to `path`; how many rows they are."""
    rows = aim.rows(coder, train.text, train.pair, train.label)
    if coder.cut:
        share = f"{100 * coder.lost / coder.seen:.1f} % of all tokens"
        tell(
            f"{coder.cut} of {len(train)} training texts are longer than max_length={coder.max_length} and are cut "
            f"(the {coder.long} is kept, {share} are lost)"
        )
    write_rows(path, rows, aim.fields)
    return len(rows)


def _room(model: Model, how: Tuning, max_length: int) -> int:
    """Tokens of a row at the most, with what the changes take of it (a prompt)."""
    if not how.changes or how.resize:
        return max_length
    with undrawn():
        encoder = model.spec.build()
        apply_changes(encoder, [*model.encoder.changes, *how.changes])
    return min(max_length, model.max_length - places_taken(encoder) + places_taken(model.encoder))


def _fingerprint(model: Model, splits: Splits, objective: Spec, settings: dict[str, Any], how: Tuning) -> str:
    """What a call would do, as a digest: its encoder, examples, objective and settings (the number of seeds aside)."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.trained().tensors.items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    parts = [[x.text, x.pair, x.label] for x in (splits.train, splits.valid, splits.test)]  # spans are written as str
    tuned = to_plain([how.changes, how.select, how.optim, how.resize])
    plain = [model.spec.to_dict(), objective.to_dict(), parts, settings | {"seeds": 0}, tuned]
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


def _stages(
    objective: Spec, how: Tuning, work: Path, rows: int, seed: int, epochs: int, lr: float, batch: int
) -> list[Stage]:
    """One stage an epoch; together they follow one schedule. The first one makes the changes."""
    steps, whole = -(-rows // batch), schedules("linear", warmup=0.1)
    return [
        Stage(
            objective,
            datas("table", path=str(work / "train.safetensors"), rows=batch, seed=draw(seed, "epoch", epoch)),
            budget=f"{steps}-steps",
            optim=how.optim.replace("lr", lr),
            schedule=schedules("part", inner=whole, begin=epoch / epochs, end=(epoch + 1) / epochs),
            select=how.select[min(epoch, len(how.select) - 1)],
            changes=how.changes if epoch == 0 else [],
            resize=how.resize if epoch == 0 else [],
        )
        for epoch in range(epochs)
    ]


def _start(model: Model, objective: Spec, bias: Tensor | None = None) -> Trained:
    """The encoder to begin with, its pooler if it has the one that the new head wants (as BERT does), and the biases of a new
    linear head where the task says them."""
    start, inner = model.trained(), objective
    while "inner" in inner.args:
        inner = inner.args["inner"]
    head = inner.args["head"]
    if bias is not None and head.kind == "linear":
        start.tensors["objective.head.out.bias"] = bias
    wanted = head.args.get("pool")
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
    long: str,
    patience: int,
    work: Path,
    progress: bool,
    tell: Say,
) -> tuple[dict[str, Any], Model]:
    """Train with one seed; (its part of the report, its model at the epoch that is best on the validation split)."""
    objective = stages[0].objective
    folder, done = work / f"seed-{seed}", work / f"seed-{seed}.json"

    def as_model(now: Trained, task: Spec) -> Model:
        made = Model.of(now, objective, model.tokenizer, task, labels)
        made.long = long
        return made

    start = _start(model, objective, task.build(labels).starts(splits.train.label))
    if done.exists():  # an earlier call finished this seed
        held, said = load_file(work / f"seed-{seed}.safetensors"), json.loads(done.read_text())
        spec, changes = from_plain(said["encoder"]), from_plain(said["changes"])
        return said["result"], as_model(Trained(spec, changes, held), from_plain(said["task"]))
    now, looks, best = start, [], None
    chosen = 0
    for epoch in range(len(stages)):
        run = Run(model.spec, stages[: epoch + 1], seed=seed, workers=0, save_seconds=600.0)
        now = train(run, folder / f"epoch-{epoch + 1}", start=replace(now, log=0), progress=progress)
        tuned = as_model(now, task)
        tuned.task = _chosen(tuned, task, splits.valid, max_length)
        look = score_examples(tuned, tuned.task.build(labels), splits.valid, max_length)
        looks.append(look.value())
        tell(f"seed {seed}, epoch {epoch + 1}/{len(stages)}: valid {_line(looks[-1])}")
        if best is None or look.better(looks[-1][look.main], looks[chosen - 1][look.main]):
            best, chosen = tuned, epoch + 1
            kept = replace(now, tensors={k: v.contiguous() for k, v in now.tensors.items()})
        if patience and epoch + 1 - chosen >= patience and epoch + 1 < len(stages):
            tell(f"seed {seed}: no epoch since {chosen} was better; it ends before {len(stages) - epoch - 1} more")
            break
    assert best is not None and best.task is not None
    scores = score_examples(best, best.task.build(labels), splits.test, max_length)
    result = {
        "seed": seed,
        "epochs": looks,
        "chosen_epoch": chosen,
        "test": scores.value(),
        "constant": scores.constant,
    }
    tell(f"seed {seed}: epoch {chosen} is best on valid; test {_line(result['test'])}")
    write_atomic(work / f"seed-{seed}.safetensors", save(kept.tensors))
    about = {"result": result, "encoder": kept.encoder.to_dict(), "changes": to_plain(kept.changes)}
    about["task"] = to_plain(best.task)
    write_atomic(done, json.dumps(about))
    shutil.rmtree(folder)
    return result, best


def _chosen(model: Model, task: Spec, valid: Examples, max_length: int) -> Spec:
    """The task with what it chooses on the validation split."""
    aim = task.build(model.labels)
    if type(aim).chosen is Task.chosen:
        return task
    parts = dict(model.parts(aim, aim.rows(model.coder(max_length), valid.text, valid.pair, None)))
    return task.slot(task.kind, **task.args | aim.chosen([parts[i] for i in range(len(valid))], valid.label))


@torch.no_grad()
def _fold(model: Model) -> None:
    """A regression's mean and scale into its head's weights, so that other libraries read the same numbers from it."""
    if model.task is None or model.head_spec is None or model.head_spec.kind != "linear":
        return
    settled = [name for name in ("mean", "scale") if name in model.task.args]
    if settled:
        mean, scale = (torch.as_tensor(model.task.args[name]).reshape(-1) for name in ("mean", "scale"))
        model.head.out.weight.mul_(scale[:, None])
        model.head.out.bias.mul_(scale).add_(mean)
        kept = {name: value for name, value in model.task.args.items() if name not in settled}
        model.task = model.task.slot(model.task.kind, **kept)


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
