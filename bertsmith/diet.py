"""Which training examples matter, told by how far a young model errs on them; the rest is left out.

    EL2N(x, y) = E_w |p(x) - y|,   p the model's probabilities, y the truth as a vector of 0 and 1
    GraNd(x, y) = E_w |g(x, y)|,   g the gradient of the loss of this one example by the head's last layer (W and b)

E_w: the mean over runs with different heads and orders of the data. Paul, Ganguli & Dziugaite 2021, Deep Learning on a Data
Diet, arXiv:2107.07075, section 2. BERT on a Data Diet, Fayyaz et al. 2022, arXiv:2211.05610: g is taken by the new classifier
alone, as only that differs between runs; an epoch must have passed; the examples of the highest scores (noise) are left out,
then those of the lowest (easy ones), 70 % kept for instance.

For a head whose last layer is y = W h + b with one document a row, g = (p - y) [h, 1], so |g| = |p - y| sqrt(|h|^2 + 1).

Differs from the papers: scores are taken without dropout, and after whole epochs.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith.coding import Coder, Row, collate
from bertsmith.data import data as datas
from bertsmith.data.table import write_rows
from bertsmith.draw import draw
from bertsmith.examples import Examples
from bertsmith.files import write_atomic
from bertsmith.linear import fits
from bertsmith.model import Model
from bertsmith.objective import objective as objectives
from bertsmith.optim import optim as optims
from bertsmith.schedule import schedule as schedules
from bertsmith.spec import Spec
from bertsmith.splits import Ask, label_space, make_splits
from bertsmith.table import Say, aloud
from bertsmith.task import Task
from bertsmith.train import Run, Stage, train
from bertsmith.tuning import finetune


@dataclass(frozen=True)
class Young:
    """The runs whose models are asked: `seeds` of them, `epochs` long out of `whole`, over which the rate falls to 0.

    `last`: patterns of the parameters of the head by which g is taken.
    """

    seeds: int = 5
    epochs: int = 1
    whole: int = 3
    lr: float = 5e-5
    batch: int = 32
    max_length: int = 128
    last: tuple[str, ...] = ("out.*",)
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """The scores of N examples in S runs, float64_SN each."""

    el2n_SN: np.ndarray
    grand_SN: np.ndarray

    @property
    def el2n(self) -> np.ndarray:
        """[N], the mean over the runs."""
        return self.el2n_SN.mean(0)

    @property
    def grand(self) -> np.ndarray:
        """[N], the mean over the runs."""
        return self.grand_SN.mean(0)


def score(
    model: Model, examples: Examples, task: Spec, labels: list[str], head: Spec | None = None, how: Young | None = None,
    progress: bool = False,
) -> Scored:  # fmt: skip
    """Tune copies of `model` on the examples, and ask each of them how far it is from their labels.

    Args:
        task, labels: one label a text, or several.

    Raises ValueError for a task that has no probabilities, a head without such parameters, no seed, or epochs > whole.
    """
    how, aim = how or Young(), task.build(labels)
    if how.seeds < 1 or not 0 <= how.epochs <= how.whole:
        raise ValueError(f"seeds is at least 1, epochs 0 to whole; got {how.seeds}, {how.epochs} of {how.whole}")
    head = head or model.usual_head(aim)
    objective = objectives("supervised", head=head, task=task, labels=labels)
    rows = aim.rows(Coder(model.tokenizer, min(how.max_length, model.max_length)), examples.text, examples.pair,
                    examples.label)  # fmt: skip
    _check(aim, rows, len(examples))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    with tempfile.TemporaryDirectory(prefix="bertsmith-") as folder:
        path = Path(folder) / "rows.safetensors"
        write_rows(path, rows, aim.fields)
        steps = -(-len(rows) // how.batch) * how.epochs
        for seed in range(how.seed, how.seed + how.seeds):
            part = schedules("linear", warmup=0.1)
            if how.epochs:
                part = schedules("part", inner=part, begin=0.0, end=how.epochs / how.whole)
            stage = Stage(
                objective,
                datas("table", path=str(path), rows=how.batch, seed=draw(seed, "diet")),
                budget=f"{steps}-steps" if steps else "1-steps",
                # where no epoch has passed, the one step that a run has at least moves nothing
                optim=optims("adamw", lr=how.lr if steps else 0.0),
                schedule=part,
            )
            run = Run(model.spec, [stage], seed=seed, workers=0, save_seconds=3600.0)
            now = train(run, Path(folder) / f"{seed}", start=model.trained(), progress=progress)
            found.append(asked(Model.of(now, objective, model.tokenizer, task, labels), aim, rows, how.last))
    return Scored(np.stack([e for e, _ in found]), np.stack([g for _, g in found]))


def asked(
    model: Model, aim: Task, rows: list[Row], last: tuple[str, ...] = ("out.*",)
) -> tuple[np.ndarray, np.ndarray]:
    """(EL2N [N], GraNd [N]) of rows, one a text, by one model. The head reads each row by itself.

    Raises ValueError if the head has no parameter whose path matches `last`.
    """
    head = model.head
    by = {name: p for name, p in head.named_parameters() if any(fits(name, pattern) for pattern in last)}
    if not by:
        names = ", ".join(name for name, _ in head.named_parameters())
        raise ValueError(f"no parameter of the head matches {', '.join(last)}; there are: {names}")
    el2n, grand = np.zeros(len(rows)), np.zeros(len(rows))
    for index, token_BT, layout in model.batches(rows):
        with torch.no_grad():
            x_BTD = model.encoder(token_BT, layout)
        for b, i in enumerate(index):
            _, alone = collate([rows[i]], 0)
            with torch.enable_grad():
                logits = head(x_BTD[b : b + 1, : len(rows[i])], alone.to(model.device)).float()
                target = rows[i].target["target"][None].to(model.device)
                loss = aim.loss(logits, target)
                grads = torch.autograd.grad(loss, list(by.values()), allow_unused=True)
            grand[i] = sum(float(g.double().square().sum()) for g in grads if g is not None) ** 0.5
            el2n[i] = float(
                (torch.from_numpy(aim.probabilities(logits.detach()))[0].double() - _true(target, logits)).norm()
            )
    return el2n, grand


def _true(target: Tensor, logits: Tensor) -> Tensor:
    """The truth of one example as a vector [K]."""
    if target.is_floating_point():
        return target[0].double().cpu()
    return F.one_hot(target[0], logits.shape[-1]).double().cpu()


def _check(aim: Task, rows: list[Row], count: int) -> None:
    shape = -1
    if aim.fields == {"target": "row"} and aim.outputs > 1 and len(rows) == count:
        target = rows[0].target["target"]
        shape = target.dim() - int(target.is_floating_point())
    if shape != 0:
        raise ValueError(
            "scores by probabilities are for one label a text, or several (task single_label, multi_label); for others there "
            "is no vector of probabilities to compare with"
        )


def ranked(score_N: np.ndarray, drop: float = 0.0, keep: float = 1.0) -> list[int]:
    """The numbers of the examples that stay, in order: by falling score, those from `drop` to `keep` of all.

    drop=0.1 leaves out the tenth with the highest scores, keep=0.7 the 30 % with the lowest. Of equal ones the first is higher.
    """
    if not 0 <= drop < keep <= 1:
        raise ValueError(f"0 <= drop < keep <= 1 must hold, not {drop} and {keep}")
    order = np.argsort(-np.asarray(score_N), kind="stable")
    return sorted(order[round(drop * len(order)) : round(keep * len(order))].tolist())


def finetune_on_diet(
    model: Model,
    source: Any,
    drop: float = 0.05,
    keep: float = 1.0,
    by: str = "el2n",
    ask: Ask | None = None,
    valid: Any = None,
    test: Any = None,
    task: Spec | None = None,
    head: Spec | None = None,
    young: Young | None = None,
    epochs: int = 3,
    seeds: int = 1,
    baselines: bool = True,
    out: str | Path | None = None,
    progress: bool = True,
    say: Say = aloud,
) -> Model:
    """Score the training examples, leave some out (see `ranked`), and `finetune` on the rest; splits stay as they were.

    Args:
        by: "el2n" or "grand".
        young: the runs that score; their lr, batch, max_length and seed are those of the tuning too.

    Returns:
        The tuned model, whose report also has "diet": by, drop, keep, and how many examples were left out. In `out` is
        diet.jsonl, too: the training examples with their scores, the highest first.
    """
    if by not in ("el2n", "grand"):
        raise ValueError(f"no score {by!r}; there are: el2n, grand")
    how, tell = young or Young(), say if progress else (lambda line: None)
    splits, task = make_splits(source, valid, test, ask or Ask(), task, how.seed, tell)
    labels, task = label_space(splits, task, tell)
    scored = score(model, splits.train, task, labels, head, how, progress)
    stay = ranked(scored.el2n if by == "el2n" else scored.grand, drop, keep)
    tell(f"diet: {len(splits.train) - len(stay)} of {len(splits.train)} training examples are left out by their {by}")
    tuned = finetune(
        model,
        splits.train.take(stay),
        valid=splits.valid,
        test=splits.test,
        task=task,
        head=head,
        out=out,
        epochs=epochs,
        seeds=seeds,
        baselines=baselines,
        lr=how.lr,
        batch=how.batch,
        max_length=how.max_length,
        seed=how.seed,
        progress=progress,
        say=say,
    )
    tuned.report["diet"] = {"by": by, "drop": drop, "keep": keep, "left_out": len(splits.train) - len(stay)}
    if out is not None:
        tuned.save(out)
        write_atomic(Path(out) / "report.json", json.dumps(tuned.report, indent=1))
        _write_scores(Path(out) / "diet.jsonl", splits.train, scored, by, stay)
    return tuned


def _write_scores(path: Path, examples: Examples, scored: Scored, by: str, stay: list[int]) -> None:
    """Each example with its scores and whether it stays, the highest score first."""
    el2n_N, grand_N, kept = scored.el2n, scored.grand, set(stay)
    lines = []
    for i in np.argsort(-(el2n_N if by == "el2n" else grand_N), kind="stable").tolist():
        pair = {} if examples.pair is None else {"pair": examples.pair[i]}
        row = {"text": examples.text[i]} | pair | {"label": examples.label[i]}
        row |= {"el2n": float(el2n_N[i]), "grand": float(grand_N[i]), "stays": i in kept}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_atomic(path, "".join(lines))
