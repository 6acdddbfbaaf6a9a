"""What recipes have alike: masked LM on packed documents, 32 rows at once, within a budget."""

import json
from pathlib import Path

from bertsmith.corpus.shards import need
from bertsmith.data import data
from bertsmith.masking import masking
from bertsmith.objective import objective
from bertsmith.spec import Spec
from bertsmith.train import Stage


def manifest(path: Path | str) -> tuple[int, dict[str, int]]:
    """(size of the vocabulary, ids of special tokens) of prepared documents. Raises ValueError if none is [MASK]."""
    held = json.loads((Path(path) / "manifest.json").read_text())
    need(held["special"], "mask")
    return held["vocabulary"], held["special"]


def masked_lm(
    kind: str,
    norm: Spec | None,
    ids: dict[str, int],
    path: Path | str,
    length: int,
    budget: str,
    seed: int,
    optim: Spec,
    schedule: Spec,
) -> Stage:
    """A stage of an objective that hides tokens as BERT does; `norm` is that of its head."""
    special = sorted(ids.values())
    aim = objective(kind, masking=masking("bert"), mask_id=ids["mask"], special=special, norm=norm)
    rows = data("packed", path=str(path), length=length, rows=32, seed=seed)
    return Stage(objective=aim, data=rows, budget=budget, optim=optim, schedule=schedule)
