"""Rows filled with pieces of several documents; no token reads a token of another piece.

Best-fit-decreasing packing of sequences for BERT: Krell, Kosec, Perez and Fitzgibbon 2021, "Efficient Sequence Packing
without Cross-contamination", arXiv:2107.02027 (their SPFHP is best fit on a histogram of lengths; here over a block of
pieces, so that the order of the corpus stays random).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bertsmith.corpus.pack import pack
from bertsmith.corpus.pieces import Pieces
from bertsmith.data import Plan, Text
from bertsmith.layout import Layout


class Packed(Text):
    """`[CLS] piece [SEP]` after `[CLS] piece [SEP]` in each row; each a document of the layout, its positions from 0.

    Args:
        path: a prepared folder.
        length: tokens of a row, T; documents are cut into pieces of at most T - 2 tokens.
        rows: rows of a batch, B.
        seed: of the order.
    """

    paper = "arXiv:2107.02027"
    example = {"path": "prepared"}

    def __init__(self, *, path: str, length: int = 128, rows: int = 32, seed: int = 0):
        super().__init__(path, length, rows, seed, extra=2)

    def arrange(self, pieces: Pieces, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Packed rows in random order."""
        rows = pack((pieces.size_N + 2).tolist(), self.length)
        return [np.array(rows[i]) for i in rng.permutation(len(rows))]

    def make(self, plan: Plan) -> dict[str, Any]:
        """{"token": int64_BT, "layout": packed Layout, "row": int64_B}."""
        B, T, special = len(plan.rows), self.length, self.shards.special
        token_BT = np.full((B, T), special["pad"], np.int64)
        segment_BT, position_BT = np.zeros((B, T), np.int64), np.zeros((B, T), np.int64)
        for b, pieces in enumerate(plan.rows):
            at = 0
            for number, (shard, start, size) in enumerate(zip(*pieces, strict=True), 1):
                end = at + size + 2
                token_BT[b, at] = special["cls"]
                token_BT[b, at + 1 : end - 1] = self.shards.shard(int(shard)).token_N[start : start + size]
                token_BT[b, end - 1] = special["sep"]
                segment_BT[b, at:end] = number
                position_BT[b, at:end] = np.arange(size + 2)
                at = end
        layout = Layout.of(torch.from_numpy(segment_BT), torch.from_numpy(position_BT))
        row_B = torch.arange(plan.first_row, plan.first_row + B)
        return {"token": torch.from_numpy(token_BT), "layout": layout, "row": row_B}
