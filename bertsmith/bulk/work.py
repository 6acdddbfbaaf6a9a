"""Rows to vectors: a thread reads and tokenizes a slice of rows while the encoder computes the one before.

N texts, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bertsmith.bulk.shards import Form
from bertsmith.bulk.source import Row, Source
from bertsmith.coding import Flat
from bertsmith.engine import Precision
from bertsmith.model import SLICE, Model

CHARACTERS = 1 << 20  # of a slice, about: it must find room in memory, however long its texts are


@dataclass(frozen=True)
class How:
    """What is made of a text: see `Model.encode`."""

    pooling: str
    normalize: bool
    max_length: int
    precision: Precision


@dataclass
class Slice:
    """Some rows of a shard, tokenized.

    Attributes:
        numbers: of the rows. kept: their columns. full_N: whether they have a text.
        texts: of those that have one. cut: how many of these were too long.
        tokenizing: seconds that it took. waited: seconds that the encoder stood still for it.
    """

    shard: int
    numbers: list[int]
    kept: list[Row]
    full_N: np.ndarray
    texts: Flat
    cut: int
    tokenizing: float
    waited: float = 0.0


@dataclass
class Done:
    """A shard that is written, and seconds that its tokens took and were waited for."""

    shard: int
    rows: int = 0
    empty: int = 0
    cut: int = 0
    tokenizing: float = 0.0
    waited: float = 0.0


@dataclass
class Worker:
    """Writes shards of a source into a folder."""

    model: Model
    source: Source
    how: How
    form: Form
    folder: Path

    def shards(self, numbers: Iterable[int]) -> Iterator[Slice | Done]:
        """Each slice when its vectors are computed, and each shard when it is on the disk."""
        for shard, slices in groupby(_ahead(self._slices(numbers)), lambda one: one.shard):
            done = Done(shard)
            rows = min(self.source.shard, self.source.count - shard * self.source.shard)
            with self.form.write(self.folder, shard, rows, self.source.tables, self.source.keep) as put:
                for one in slices:
                    put(one.numbers, one.kept, one.full_N, self._vectors(one))
                    done.rows += len(one.numbers)
                    done.empty += len(one.numbers) - len(one.texts)
                    done.cut += one.cut
                    done.tokenizing += one.tokenizing
                    done.waited += one.waited
                    yield one
            yield done

    def _slices(self, numbers: Iterable[int]) -> Iterator[Slice]:
        for shard in numbers:
            held: list[tuple[int, Row, str]] = []
            size = 0
            for number, row in self.source.rows(shard):
                cell = row.get(self.source.text)
                text = "" if cell is None else str(cell)
                kept = {name: row.get(name) for name in self.source.keep}
                held.append((number, kept, text))
                size += len(text) + sum(len(one) for one in kept.values() if isinstance(one, str))
                if len(held) == SLICE or size >= CHARACTERS:
                    yield self._tokenized(shard, held)
                    held, size = [], 0
            if held:
                yield self._tokenized(shard, held)

    def _tokenized(self, shard: int, held: list[tuple[int, Row, str]]) -> Slice:
        numbers, kept, texts = map(list, zip(*held, strict=True))
        full = [bool(text.strip()) for text in texts]
        begin, coder = perf_counter(), self.model.coder(self.how.max_length)
        texts = coder.flat([text for text, there in zip(texts, full, strict=True) if there])
        return Slice(shard, numbers, kept, np.array(full), texts, coder.cut, perf_counter() - begin)

    def _vectors(self, one: Slice) -> np.ndarray:
        """float32 [N, D]; zeros for a row without a text."""
        vector_ND = np.zeros((len(one.numbers), self.form.dim), np.float32)
        if len(one.texts):
            how = self.how.pooling, self.how.precision, self.how.normalize
            vector_ND[one.full_N] = self.model.pooled(one.texts, *how)
        return vector_ND


def _ahead(slices: Iterator[Slice]) -> Iterator[Slice]:
    """The same; while one is worked on, a thread makes the next."""
    with ThreadPoolExecutor(1, "tokenizer") as thread:
        following = thread.submit(next, slices, None)
        while True:
            begin = perf_counter()
            now: Any = following.result()
            if now is None:
                return
            now.waited = perf_counter() - begin
            following = thread.submit(next, slices, None)
            yield now
