"""parquet, a batch of rows at a time. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bertsmith.stream.base import Put, Stream, cell_of

BATCH = 1024  # rows
WANTED = "reading and writing .parquet needs pyarrow: pip install 'bertsmith[data]'"


@dataclass
class Parquet(Stream):
    """Cells of any type; `schema` is pyarrow's, so that they can be written as they were."""

    schema: Any = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in _batches(self.path):
            yield from batch.to_pylist()


def open_parquet(path: Path) -> Parquet:
    """Look through a parquet file once."""
    pa = _arrow()
    count = sum(batch.num_rows for batch in _batches(path))
    schema = pa.parquet.read_schema(path)
    if len(set(schema.names)) < len(schema.names):
        raise ValueError(f"{path} names a column twice: {', '.join(map(repr, schema.names))}")
    plain = {pa.bool_(): bool, pa.int64(): int, pa.float64(): float}
    columns = {one.name: plain.get(one.type, str) for one in schema}
    return Parquet(path, columns, count, schema=schema)


@contextmanager
def parquet_writer(file: IO[bytes], columns: dict[str, type], like: Stream | None) -> Iterator[Put]:
    """Columns of `like` keep their types if it is a parquet file. Else numbers are numbers, and all other cells are text, which
    is JSON where it was no string."""
    pa = _arrow()
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    held = {one.name: one for one in like.schema} if isinstance(like, Parquet) else {}
    schema = pa.schema([held.get(name) or pa.field(name, types[one]) for name, one in columns.items()])
    texts = [name for name, one in columns.items() if one is str and name not in held]
    rows: list[dict[str, Any]] = []

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(rows, schema))
        rows.clear()

    def put(row: dict[str, Any]) -> None:
        rows.append(row | {name: cell_of(row[name]) for name in texts if row.get(name) is not None})
        if len(rows) == BATCH:
            flush()

    with pa.parquet.ParquetWriter(file, schema) as writer:
        yield put
        flush()


def _batches(path: Path) -> Iterator[Any]:
    pa = _arrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a parquet file that can be read: {error}") from error


def _arrow() -> Any:
    """pyarrow. Raises ImportError, saying what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(WANTED) from error
    return pyarrow
