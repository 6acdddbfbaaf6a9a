"""A shard on the disk, written a slice at a time: one parquet file, or NumPy arrays with the columns beside them.

N rows, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bertsmith.stream import Stream, cell_of, write_stream
from bertsmith.stream.columnar import WANTED, Parquet
from bertsmith.stream.packed import atomic

Format = Literal["parquet", "npy"]
PARTS = {"parquet": (".parquet",), "npy": (".npy", ".mask.npy", ".jsonl")}  # files of a shard
Put = Callable[[Sequence[int], list[dict[str, Any]], np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Form:
    """How shards are written.

    Attributes:
        format: "parquet", or "npy" with a mask of the rows that have a text, and with numbers and columns as jsonl.
        row, vector: names of the columns of the row's number, and of its vector (in parquet).
        dim: D.
    """

    format: Format
    row: str
    vector: str
    dim: int

    def check(self, keep: Sequence[str]) -> None:
        """Raises ValueError for an unknown format or a name that occurs twice, ImportError where pyarrow is missing."""
        if self.format not in get_args(Format):
            raise ValueError(f"no format {self.format!r}; there are: {', '.join(get_args(Format))}")
        names = [self.row, self.vector, *keep]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"there would be two columns {twice[0]!r}; say row= or vector=, another name")
        if self.format == "parquet":
            arrow()

    def files(self, folder: Path, shard: int) -> list[Path]:
        return [folder / f"{shard:06}{ending}" for ending in PARTS[self.format]]

    @contextmanager
    def write(self, folder: Path, shard: int, rows: int, tables: list[Stream], keep: Sequence[str]) -> Iterator[Put]:
        """What takes (numbers of rows, kept columns of each, whether each has a text, float32 [N, D]) of slice after slice."""
        files = self.files(folder, shard)
        if self.format == "parquet":
            with _parquet(files[0], self, tables, keep) as put:
                yield put
        else:
            with _npy(files, self, rows, keep) as put:
                yield put


def join(parts: list[Path], out: Path) -> None:
    """One parquet file of several that are alike, a row group at a time."""
    pa = arrow()
    with atomic(out) as file, pa.parquet.ParquetFile(parts[0]) as first:
        with pa.parquet.ParquetWriter(file, first.schema_arrow, use_dictionary=_plain(first.schema_arrow)) as writer:
            for path in parts:
                with pa.parquet.ParquetFile(path) as part:
                    for number in range(part.num_row_groups):
                        writer.write_table(part.read_row_group(number))


def arrow() -> Any:
    """pyarrow. Raises ImportError, saying what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{WANTED}, or say the format npy") from error
    return pyarrow


@contextmanager
def _parquet(path: Path, form: Form, tables: list[Stream], keep: Sequence[str]) -> Iterator[Put]:
    """A slice is a row group. A row without a text has no vector (null)."""
    pa = arrow()
    cells = pa.schema([pa.field(name, _type(name, tables)) for name in keep])
    texts = [one.name for one in cells if one.type == pa.string()]
    schema = pa.schema([(form.row, pa.int64()), *cells, (form.vector, pa.list_(pa.float32(), form.dim))])

    def put(numbers: Sequence[int], rows: list[dict[str, Any]], full_N: np.ndarray, vector_ND: np.ndarray) -> None:
        rows = [row | {name: cell_of(row[name]) for name in texts if row[name] is not None} for row in rows]
        kept = pa.Table.from_pylist(rows, cells)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(vector_ND.ravel()), form.dim, mask=pa.array(~full_N))
        columns = [pa.array(numbers, pa.int64()), *kept.columns, vectors]
        writer.write_table(pa.Table.from_arrays(columns, schema=schema))

    with atomic(path) as file, pa.parquet.ParquetWriter(file, schema, use_dictionary=_plain(schema)) as writer:
        yield put


def _type(name: str, tables: list[Stream]) -> Any:
    """The type of a column in parquet: that which all tables give it, else text, which is JSON where it was no string."""
    pa = arrow()
    plain = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    found = {t.schema.field(name).type if isinstance(t, Parquet) else plain[t.columns[name]] for t in tables}
    return found.pop() if len(found) == 1 else pa.string()


def _plain(schema: Any) -> list[str]:
    """Columns in which cells may repeat, so that a dictionary makes them small. Numbers of rows and vectors do not."""
    return schema.names[1:-1]


@contextmanager
def _npy(files: list[Path], form: Form, rows: int, keep: Sequence[str]) -> Iterator[Put]:
    """Arrays of a known length, to which slice after slice is added. A row without a text is zeros."""
    columns = dict.fromkeys([form.row, *keep], str)
    with (
        atomic(files[0]) as vectors,
        atomic(files[1]) as mask,
        write_stream(files[2], columns) as (put_row, _),
    ):
        for file, shape, kind in ((vectors, (rows, form.dim), "<f4"), (mask, (rows,), "|b1")):
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)

        def put(numbers: Sequence[int], rows: list[dict[str, Any]], full_N: np.ndarray, vector_ND: np.ndarray) -> None:
            vectors.write(vector_ND.astype("<f4", copy=False).tobytes())
            mask.write(full_N.tobytes())
            for number, row in zip(numbers, rows, strict=True):
                put_row({form.row: number} | row)

        yield put
