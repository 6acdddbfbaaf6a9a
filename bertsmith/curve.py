"""How good a model becomes with how many examples: fine-tuning at several training sizes, measured on one test split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from bertsmith.draw import draw
from bertsmith.examples import Columns
from bertsmith.files import write_atomic
from bertsmith.model import Model
from bertsmith.spec import Spec
from bertsmith.splits import Ask, make_splits
from bertsmith.table import Say, aloud
from bertsmith.tuning import Tuning, finetune


def curve(
    model: Model,
    source: Any,
    sizes: Sequence[int],
    text: str | None = None,
    pair: Columns | None = None,
    label: Columns | None = None,
    out: Path | str | None = None,
    valid: Any = None,
    test: Any = None,
    seeds: int = 1,
    epochs: int = 3,
    lr: float | None = None,
    batch: int = 32,
    max_length: int = 128,
    task: Spec | None = None,
    head: Spec | None = None,
    seed: int = 0,
    baselines: bool | Literal["all"] | dict[str, Spec] = True,
    tuning: Tuning | None = None,
    group: str | None = None,
    long: str = "head",
    pool: str = "",
    patience: int = 0,
    progress: bool = True,
    say: Say = aloud,
) -> dict[str, Any]:
    """Fine-tune on the first n training examples for each n of `sizes`, in an order drawn by a hash of their text.

    The smaller sets are parts of the larger ones. Validation and test splits are the same for all, and those of `finetune` with
    these arguments; so is what every other argument means. The epoch is chosen on the whole validation split, however
    small n is: the share of examples that a small set would have to give up for it is not counted.

    Args:
        sizes: numbers of training examples; those above what there is become that number.
        out: a folder (that of the tuned model, say) into which curve.json goes; it is written anew after every size.

    Returns:
        {"metric", "examples": of the whole training split, "points": [{"size", "test": mean and interval of each metric,
        "baselines"}, ...] from the smallest size to the largest}.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes of training sets are whole numbers from 1; got {list(sizes)}")
    splits, task = make_splits(source, valid, test, Ask(text, pair, label, group), task, seed, say)
    keys = splits.train.keys()
    order = sorted(range(len(keys)), key=lambda i: (draw(seed, "curve", keys[i]), keys[i], i))
    found: dict[str, Any] = {"metric": "", "examples": len(keys), "points": []}
    for size in sorted({min(size, len(keys)) for size in sizes}):
        tuned = finetune(
            model,
            splits.train.take(sorted(order[:size])),
            valid=splits.valid,
            test=splits.test,
            seeds=seeds,
            epochs=epochs,
            lr=lr,
            batch=batch,
            max_length=max_length,
            progress=progress,
            task=task,
            head=head,
            seed=seed,
            baselines=baselines,
            tuning=tuning,
            long=long,
            pool=pool,
            patience=patience,
            say=say,
        )
        found["metric"] = tuned.report["metric"]
        found["points"].append({"size": size} | {k: tuned.report[k] for k in ("test", "baselines")})
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
            write_atomic(Path(out) / "curve.json", json.dumps(found, indent=1))
    return found
