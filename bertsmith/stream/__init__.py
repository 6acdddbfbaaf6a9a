"""Tables row by row, read and written without ever holding one whole: csv, tsv, jsonl, json and txt (also .gz and .xz),
parquet, and `-`, the standard input and output.

What a file left open is decided as `bertsmith.table` does, by a first pass over it, which also finds what cannot be read
before anything is done with the rows.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertsmith.stream.base import Put, Stream, cell_of
from bertsmith.stream.columnar import open_parquet, parquet_writer
from bertsmith.stream.packed import OPENERS, atomic, lines
from bertsmith.stream.records import array_writer, lines_writer, open_array, open_lines, open_texts, texts_writer
from bertsmith.stream.separated import Separated, open_separated, separated_writer

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt", ".parquet")
PIPE = "-"

__all__ = ["FORMATS", "PIPE", "Put", "Stream", "cell_of", "open_stream", "write_stream"]


def open_stream(path: str | Path) -> Stream:
    """Look through a file once; "-" is the standard input, objects or texts, one a line, put into a temporary file.

    Raises FileNotFoundError, or ValueError naming the file and the line that cannot be read.
    """
    if str(path) == PIPE:
        return _open_pipe()
    path = Path(path)
    kind = _kind(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; a table to be read row by row is one of {', '.join(FORMATS)}")
    if kind in (".csv", ".tsv"):
        found: Stream = open_separated(path, kind)
    else:
        found = {".json": open_array, ".txt": open_texts, ".parquet": open_parquet}.get(kind, open_lines)(path)
    if not found.count:
        raise ValueError(f"{path} has no rows")
    return found


def _open_pipe() -> Stream:
    """Objects if the first line that is not blank begins as one, else texts."""
    home = tempfile.TemporaryDirectory(prefix="bertsmith-")
    held = Path(home.name) / "standard-input"
    with open(held, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    first = next((line for _, line in lines(held) if line.strip()), "")
    path = held.with_suffix(".jsonl" if first.lstrip().startswith("{") else ".txt")
    held.rename(path)
    found = open_stream(path)
    found.keep = home
    return found


@contextmanager
def write_stream(path: str | Path, columns: dict[str, type], like: Stream | None = None) -> Iterator[tuple[Put, bool]]:
    """(a function that writes a row, whether it takes strings and numbers alone) of a table that is there whole when the block
    ends well, and else not at all; but "-" is the standard output, to which objects go line by line.

    In csv and tsv a cell that is no string is written as JSON, and None is empty. In jsonl and json a row is an object of what
    is in it. In txt is one column alone, the first that `like` has not.

    Args:
        columns: names and types, as of a `Stream`.
        like: where the rows come from. In a file of the same kind separator, quotes, the lack of a header and the types of
            parquet are as they are there.
    """
    if str(path) == PIPE:
        yield lines_writer(sys.stdout.buffer), False
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    kind = _kind(path)
    with atomic(path) as file:
        if kind == ".parquet":
            with parquet_writer(file, columns, like) as put:
                yield put, True
        elif kind == ".json":
            with array_writer(file) as put:
                yield put, False
        elif kind == ".txt":
            alone = next(name for name in columns if like is None or name not in like.columns)
            yield texts_writer(file, path, alone), True
        elif kind in (".csv", ".tsv"):
            same = like if isinstance(like, Separated) and kind == _kind(like.path) else None
            yield separated_writer(file, path, kind, columns, same), True
        else:
            yield lines_writer(file), False


def _kind(path: Path) -> str:
    """The ending of a name without that of packing. ValueError for one that cannot be read row by row."""
    suffixes = [s.lower() for s in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in OPENERS
    if packed:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in FORMATS or packed and suffixes[-1] == ".parquet":
        raise ValueError(
            f"{path} ends in none of {', '.join(FORMATS)} (text also as .gz or .xz); rename it to say what it is, or convert it"
        )
    return suffixes[-1]
