"""Documents cut into pieces of at most P tokens, found by number without an index of them.

A document of n tokens has pieces at 0, P, 2P, ... of it. A shard of N tokens has ceil(N / P) windows of P tokens; a
piece belongs to the window in which it starts. So windows can be numbered from the token counts of the shards alone,
and the pieces of a window are found by binary search in the mapped offsets: nothing grows with the corpus.
"""

from typing import NamedTuple

import numpy as np

from bertsmith.corpus.shards import Shard, Shards


class Pieces(NamedTuple):
    """N pieces: which shard, the first token in it, how many tokens."""

    shard_N: np.ndarray
    start_N: np.ndarray
    size_N: np.ndarray

    def take(self, index: np.ndarray) -> "Pieces":
        """Some of them, in the order of `index`."""
        return Pieces(self.shard_N[index], self.start_N[index], self.size_N[index])


class Windows:
    """The windows of all shards, numbered from 0 to `count` - 1.

    Args:
        shards: a prepared corpus.
        size: P, the most tokens of a piece.
    """

    def __init__(self, shards: Shards, size: int):
        self.shards, self.size = shards, size
        self.first_S = np.concatenate([[0], np.cumsum(-(-shards.tokens_of_S // size))])
        self.count = int(self.first_S[-1])

    def pieces(self, window_W: np.ndarray) -> Pieces:
        """The pieces that start in these windows; sorted by shard, then in the order of `window_W`."""
        shard_W = np.searchsorted(self.first_S, window_W, "right") - 1
        found: list[Pieces] = []
        for number in np.unique(shard_W):
            inside = window_W[shard_W == number] - self.first_S[number]
            start, size = self._pieces_of_shard(self.shards.shard(int(number)), inside)
            found.append(Pieces(np.full(len(start), number), start, size))
        return Pieces(*(np.concatenate(part) for part in zip(*found, strict=True)))

    def _pieces_of_shard(self, shard: Shard, window_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        P = self.size
        low_W = window_W * P
        high_W = np.minimum(low_W + P, len(shard.token_N))
        first_W, last_W = document_at(shard, low_W), document_at(shard, high_W - 1)
        # every document that touches a window may start a piece in it, and no more than one
        count_W = last_W - first_W + 1
        window_N = np.repeat(np.arange(len(window_W)), count_W)
        document_N = np.arange(len(window_N)) - np.repeat(np.cumsum(count_W) - count_W, count_W) + first_W[window_N]
        begin_N = shard.line_L[shard.document_D[document_N]]
        end_N = shard.line_L[shard.document_D[document_N + 1]]
        start_N = begin_N + -(-np.maximum(low_W[window_N] - begin_N, 0) // P) * P
        keep_N = start_N < np.minimum(high_W[window_N], end_N)
        start_N = start_N[keep_N]
        return start_N, np.minimum(P, end_N[keep_N] - start_N)


def document_at(shard: Shard, token_N: np.ndarray) -> np.ndarray:
    """Which document of the shard each token stands in."""
    line_N = np.searchsorted(shard.line_L, token_N, "right") - 1
    return np.searchsorted(shard.document_D, line_N, "right") - 1
