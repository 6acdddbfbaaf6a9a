"""Two segments a row, for next-sentence prediction (Devlin, Chang, Lee, Toutanova 2019, BERT, arXiv:1810.04805, 3.1).

Differs from the paper: a piece of a document is split at one of the sentence ends in it, drawn at random, instead of
gathering whole sentences, so that a row is full and every token is read once an epoch; a random second segment begins a
paragraph of another document and is no longer than the one it stands for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from bertsmith.corpus.pieces import Pieces, document_at
from bertsmith.data import Plan, Text
from bertsmith.draw import numpy_rng
from bertsmith.layout import Layout

ENDS = (".", "!", "?", "。", "！", "？")


class Pairs(Text):
    """`[CLS] A [SEP] B [SEP]` a row; type 0 up to the first [SEP], then 1; B follows A, or with 1/2 is from elsewhere.

    Args:
        path: a prepared folder of at least two documents.
        length: tokens of a row, T.
        rows: rows of a batch, B.
        seed: of the order, the splits and the second segments.

    Raises:
        ValueError: only one document: there is no other to draw from.
    """

    paper = "arXiv:1810.04805"
    example = {"path": "prepared"}

    def __init__(self, *, path: str, length: int = 128, rows: int = 32, seed: int = 0):
        super().__init__(path, length, rows, seed, extra=3)
        if self.shards.documents < 2:
            raise ValueError(f"{path} holds one document; a random second segment needs another one to be drawn from")
        tokenizer = Tokenizer.from_file(str(self.shards.tokenizer_file))
        self.ends = np.array([i for end in ENDS if (i := tokenizer.token_to_id(end)) is not None])

    def arrange(self, pieces: Pieces, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """One piece a row, in random order; a piece of one token cannot be split and is left out."""
        return list(rng.permutation(np.flatnonzero(pieces.size_N >= 2))[:, None])

    def make(self, plan: Plan) -> dict[str, Any]:
        """{"token": int64_BT, "layout": Layout with types, "row": int64_B, "next": int64_B: 0 B follows, 1 random}."""
        B, T, special = len(plan.rows), self.length, self.shards.special
        token_BT = np.full((B, T), special["pad"], np.int64)
        segment_BT, position_BT, type_BT = (np.zeros((B, T), np.int64) for _ in range(3))
        next_B = np.zeros(B, np.int64)
        for b, piece in enumerate(plan.rows):
            rng = numpy_rng(self.seed, "pair", plan.first_row + b)
            number, start, size = (int(part[0]) for part in piece)
            first = start + self._split(number, start, size, rng)
            a_A, b_B = (
                self.shards.shard(number).token_N[start:first],
                self.shards.shard(number).token_N[first : start + size],
            )
            next_B[b] = rng.integers(2)
            if next_B[b]:
                b_B = self._elsewhere(number, start, len(b_B), rng)
            row = np.concatenate([[special["cls"]], a_A, [special["sep"]], b_B, [special["sep"]]])
            token_BT[b, : len(row)] = row
            segment_BT[b, : len(row)] = 1
            position_BT[b, : len(row)] = np.arange(len(row))
            type_BT[b, len(a_A) + 2 : len(row)] = 1
        layout = Layout.of(*map(torch.from_numpy, (segment_BT, position_BT, type_BT)))
        row_B = torch.arange(plan.first_row, plan.first_row + B)
        return {"token": torch.from_numpy(token_BT), "layout": layout, "row": row_B, "next": torch.from_numpy(next_B)}

    def _split(self, number: int, start: int, size: int, rng: np.random.Generator) -> int:
        """How many tokens A has, 1 to size - 1: up to the end of a paragraph or sentence, anywhere if there is none."""
        shard = self.shards.shard(number)
        low, high = np.searchsorted(shard.line_L, [start + 1, start + size])
        ends = np.flatnonzero(np.isin(shard.token_N[start : start + size - 1], self.ends)) + 1
        choices = np.union1d(shard.line_L[low:high] - start, ends)
        return int(rng.choice(choices)) if len(choices) else int(rng.integers(1, size))

    def _elsewhere(self, number: int, start: int, most: int, rng: np.random.Generator) -> np.ndarray:
        """Up to `most` tokens from the start of a paragraph of any other document."""
        shards = self.shards
        own = int(shards.first_document_S[number]) + int(document_at(shards.shard(number), np.array([start]))[0])
        shard, inside = shards.place((own + 1 + int(rng.integers(shards.documents - 1))) % shards.documents)
        low, high = shard.document_D[inside : inside + 2]
        first, end = shard.line_L[rng.integers(low, high)], shard.line_L[high]
        return shard.token_N[first : min(first + most, end)]
