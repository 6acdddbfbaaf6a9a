"""The rows of one table or of several, one after the other, of which the text and some columns are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bertsmith.stream import FORMATS, PIPE, Stream, open_stream
from bertsmith.table import TEXT_NAMES, Say

Row = dict[str, Any]


@dataclass
class Source:
    """Tables that were looked through once. Row numbers begin at 0 and go on from one table to the next.

    Attributes:
        text: the column to encode.
        keep: the columns to hand on.
        shard: rows of a shard; the last one may have fewer.
    """

    tables: list[Stream]
    text: str
    keep: list[str]
    shard: int
    _rows: Iterator[Row] = field(default_factory=lambda: iter(()), repr=False)
    _at: int | None = None  # the number of the row that `_rows` gives next

    @property
    def count(self) -> int:
        return sum(table.count for table in self.tables)

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard)

    def rows(self, shard: int) -> Iterator[tuple[int, Row]]:
        """(number, row) of a shard. Reading goes on from where it stopped, so that rising shards cost one reading in all."""
        begin = shard * self.shard
        if self._at is None or begin < self._at:
            self._rows, self._at = chain.from_iterable(self.tables), 0
        for _ in islice(self._rows, begin - self._at):
            self._at += 1
        for row in islice(self._rows, self.shard):
            self._at += 1
            yield self._at - 1, row
        if self._at < min(begin + self.shard, self.count):
            raise ValueError(f"row {self._at} is missing of {self.count}: a table was changed while it was read")

    def located(self) -> Source:
        """The same for another process, wherever it works."""
        tables = [replace(table, path=table.path.absolute()) for table in self.tables]
        return Source(tables, self.text, self.keep, self.shard)

    def about(self) -> list[dict[str, Any]]:
        """What tells these tables from others."""
        return [
            {
                "file": table.path.name,
                "bytes": table.path.stat().st_size,
                "rows": table.count,
                "digest": _digest(table.path),
            }
            for table in self.tables
        ]


def open_source(
    given: str | Path | Sequence[str | Path], text: str | None, keep: Sequence[str], shard: int, say: Say
) -> Source:
    """Look through all tables of files and folders (in them those with a known ending, by name, but for hidden ones).

    Raises FileNotFoundError, ValueError or KeyError for what cannot be read, and for a column that one of them has not.
    """
    if shard < 1:
        raise ValueError(f"a shard has one row at least; got shard={shard}")
    named = [given] if isinstance(given, str | Path) else list(given)
    if not named or PIPE in map(str, named):
        raise ValueError("vectors are made of files, which can be read again when the job goes on; name one or several")
    tables = [open_stream(path) for one in named for path in _files(Path(one))]
    for note in (note for table in tables for note in table.notes):
        say(note)
    text = text or _text_column(tables[0], say)
    for table in tables:
        for name in (text, *keep):
            if name not in table.columns:
                raise KeyError(f"{table.path} has no column {name!r}; it has: {', '.join(map(repr, table.columns))}")
    return Source(tables, text, list(keep), shard)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.is_file() and _is_table(one.name))
    if not found:
        raise FileNotFoundError(f"no table in the folder {str(path)!r}; a table is one of {', '.join(FORMATS)}")
    return found


def _is_table(name: str) -> bool:
    bare = name.lower().removesuffix(".gz").removesuffix(".xz")
    return bare.endswith(FORMATS) and not name.startswith((".", "_"))


def _text_column(table: Stream, say: Say) -> str:
    """The only column, or the first with a usual name; which is said."""
    lower = {name.strip().lower(): name for name in reversed(table.columns)}
    found = [lower[name] for name in TEXT_NAMES if name in lower]
    if len(table.columns) > 1 and not found:
        raise ValueError(
            f"which column of {table.path} is the text? Say text=... of {', '.join(map(repr, table.columns))}"
        )
    text = next(iter(table.columns)) if len(table.columns) == 1 else found[0]
    say(f"{table.path}: the text is in column {text!r} (guessed)")
    return text


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
