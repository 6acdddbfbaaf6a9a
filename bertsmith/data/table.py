"""Labelled rows, tokenised once and held in memory; batches of like length, in an order of its own for each epoch."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from bertsmith.data import Data
from bertsmith.draw import numpy_rng
from bertsmith.files import write_atomic
from bertsmith.layout import Layout

NEAR = 32  # batches that are sorted by length together


class Rows(NamedTuple):
    """What the next batch is: which rows of the table, and the global number of its first."""

    chosen: np.ndarray
    first_row: int


class Table(Data):
    """Batches {"token", "layout", "row", "target"}, one text a row, padded to the longest of the batch.

    An epoch visits every row once: rows are shuffled, blocks of 32 batches are sorted by length and cut into
    batches, and the batches are shuffled, all a function of (seed, epoch). The last batch of the longest rows of an
    epoch may be smaller.

    path: a file that `write_rows` wrote.
    """

    paper = "arXiv:1810.04805"
    example = {"path": "rows.safetensors"}

    def __init__(self, *, path: str, rows: int = 32, seed: int = 0):
        if rows < 1:
            raise ValueError(f"data/table: a batch has at least 1 row, not {rows}")
        if not Path(path).is_file():
            raise FileNotFoundError(f"data/table: no file {path!r}; write_rows makes one")
        held = load_file(path)
        self.rows, self.seed, self.target = rows, seed, held["target"]
        self.token, self.type, self.start = (held[name].numpy() for name in ("token", "type", "start"))
        self.length = self.start[1:] - self.start[:-1]
        self.load({"epoch": 0, "batch": 0, "row": 0})

    @property
    def per_epoch(self) -> int:
        """Batches of one epoch."""
        return -(-len(self.length) // self.rows)

    def _epoch_order(self, rng: np.random.Generator) -> list[np.ndarray]:
        """The batches of an epoch: row numbers of each."""
        order = rng.permutation(len(self.length))
        block = self.rows * NEAR
        order = np.concatenate(
            [
                part[np.argsort(self.length[part], kind="stable")]
                for part in np.split(order, range(block, len(order), block))
            ]
        )
        found = np.split(order, range(self.rows, len(order), self.rows))
        return [found[i] for i in rng.permutation(len(found))]

    def plan(self) -> Rows:
        if self._order is None:
            self._order = self._epoch_order(numpy_rng(self.seed, "table", self._epoch))
        plan = Rows(self._order[self._batch], self._row)
        self._row, self._batch = self._row + len(plan.chosen), self._batch + 1
        if self._batch == len(self._order):
            self._epoch, self._batch, self._order = self._epoch + 1, 0, None
        return plan

    def make(self, plan: Rows) -> dict[str, Any]:
        length = self.length[plan.chosen]
        place_BT = np.arange(length.max())[None, :]
        keep_BT = place_BT < length[:, None]
        at_BT = np.where(keep_BT, self.start[plan.chosen][:, None] + place_BT, 0)
        token_BT, type_BT = (
            torch.from_numpy(np.where(keep_BT, x[at_BT], 0).astype(np.int64)) for x in (self.token, self.type)
        )
        layout = Layout.padded(torch.from_numpy(keep_BT), type_BT, whole=bool(keep_BT.all()))
        row = torch.arange(plan.first_row, plan.first_row + len(plan.chosen))
        return {"token": token_BT, "layout": layout, "row": row, "target": self.target[torch.from_numpy(plan.chosen)]}

    def state(self) -> dict[str, int]:
        return {"epoch": self._epoch, "batch": self._batch, "row": self._row}

    def load(self, state: dict[str, int]) -> None:
        if set(state) != {"epoch", "batch", "row"}:
            raise ValueError(
                f"not a state of data/table: it must have epoch, batch, row; it has {', '.join(map(str, state))}"
            )
        self._epoch, self._batch, self._row = (int(state[name]) for name in ("epoch", "batch", "row"))
        self._order: list[np.ndarray] | None = None


def write_rows(path: Path, token: list[Tensor], types: list[Tensor], target: Tensor) -> None:
    """Write tokenised rows (ids, token types and a target of each) as a file for `data/table`, whole or not at all."""
    if not len(token) == len(types) == len(target) > 0:
        raise ValueError(
            f"{len(token)} rows, {len(types)} rows of types and {len(target)} targets: they must be as many, and some"
        )
    start = torch.tensor([0, *(len(row) for row in token)]).cumsum(0)
    held = {
        "token": torch.cat(token).int(),
        "type": torch.cat(types).to(torch.uint8),
        "start": start,
        "target": target.contiguous(),
    }
    write_atomic(path, save(held))
