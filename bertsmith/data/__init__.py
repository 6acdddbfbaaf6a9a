"""Batches of token rows from a prepared corpus. A kind says what the rows of a block are, and makes batches of rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bertsmith.corpus.order import shuffled
from bertsmith.corpus.pieces import Pieces, Windows
from bertsmith.corpus.shards import Shards, need
from bertsmith.draw import numpy_rng
from bertsmith.spec import Slot

BLOCK = 4096  # windows whose pieces are held, and packed, at once


class Plan(NamedTuple):
    """What the next batch is: for each of its B rows the pieces in it, and the global number of its first row."""

    rows: list[Pieces]
    first_row: int


class Data(ABC):
    """Batches without end, epoch after epoch, exactly resumed: going on from `state()` gives the same batches to the bit.

    `plan` says what the next batch is, cheaply, and advances; `make` builds it and may be called in any process.
    """

    paper = ""

    @abstractmethod
    def plan(self) -> Any:
        """What the next batch is."""

    @abstractmethod
    def make(self, plan: Any) -> dict[str, Any]:
        """The batch of a plan: {"token": int64_BT, "layout": Layout, "row": int64_B (global numbers), ...}. Pure."""

    @abstractmethod
    def state(self) -> dict[str, int]:
        """Where the next plan begins; plain JSON."""

    @abstractmethod
    def load(self, state: dict[str, int]) -> None:
        """Go on from a `state()`. Raises ValueError for what is none."""


class Text(Data):
    """Rows of a prepared corpus; a kind says what the rows of a block are and how rows become a batch.

    The order of an epoch is a function of (seed, epoch). Memory: the pieces of one block of 4096 windows (about 1 MB) and
    some numbers per shard; nothing grows with the corpus but the latter.

    Args (of every kind):
        path: a folder written by `corpus.prepare.prepare`.
        length: tokens of a row, T.
        rows: rows of a batch, B.
        seed: of the order of the rows and of what else is drawn.

    Raises:
        ValueError: rows or length too small, or no text in the corpus.
    """

    def __init__(self, path: str, length: int, rows: int, seed: int, extra: int):
        """`extra`: how many tokens of a row are special ones beside a piece."""
        if length <= extra or rows < 1:
            raise ValueError(
                f"length {length} and rows {rows}: a row needs more than {extra} tokens, a batch at least 1 row"
            )
        self.shards = Shards(path)
        need(self.shards.special, "pad", "cls", "sep")
        self.length, self.rows, self.seed = length, rows, seed
        self.windows = Windows(self.shards, length - extra)
        if not self.windows.count:
            raise ValueError(f"{path} holds no tokens")
        self.load({"epoch": 0, "block": 0, "row_in_block": 0, "row": 0})

    @abstractmethod
    def arrange(self, pieces: Pieces, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """The rows of a block, in order: for each row the numbers of its pieces. May be empty."""

    def plan(self) -> Plan:
        """What the next batch is; a batch may straddle blocks and epochs."""
        chosen: list[Pieces] = []
        first = self._row
        turns = 0
        while len(chosen) < self.rows:
            pieces, rows = self._arranged()
            if self._row_in_block < len(rows):
                chosen.append(pieces.take(rows[self._row_in_block]))
                self._row_in_block += 1
                turns = 0
                continue
            turns += 1
            self._block, self._row_in_block = self._block + 1, 0
            if self._block * BLOCK >= self.windows.count:
                self._epoch, self._block = self._epoch + 1, 0
            if turns * BLOCK > self.windows.count + 2 * BLOCK:
                raise ValueError(
                    f"{self.shards.folder} gives no row: its documents are too short for this kind of data"
                )
        self._row += len(chosen)
        return Plan(chosen, first)

    def state(self) -> dict[str, int]:
        """Where the next plan begins; plain JSON."""
        return {"epoch": self._epoch, "block": self._block, "row_in_block": self._row_in_block, "row": self._row}

    def load(self, state: dict[str, int]) -> None:
        """Go on from a `state()`. Raises ValueError for what is none."""
        names = ("epoch", "block", "row_in_block", "row")
        if set(state) != set(names):
            raise ValueError(
                f"not a state of data: it must have {', '.join(names)}; it has {', '.join(map(str, state))}"
            )
        self._epoch, self._block, self._row_in_block, self._row = (int(state[name]) for name in names)
        self._held: tuple[tuple[int, int], Pieces, Sequence[np.ndarray]] | None = None

    def _arranged(self) -> tuple[Pieces, Sequence[np.ndarray]]:
        """The pieces and the rows of the present block."""
        key = (self._epoch, self._block)
        if self._held is None or self._held[0] != key:
            at = np.arange(self._block * BLOCK, min((self._block + 1) * BLOCK, self.windows.count))
            pieces = self.windows.pieces(shuffled(at, self.windows.count, self.seed, "order", self._epoch))
            self._held = key, pieces, self.arrange(pieces, numpy_rng(self.seed, "block", *key))
        return self._held[1], self._held[2]


data = Slot(__name__, Data)
