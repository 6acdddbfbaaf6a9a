"""csv and tsv, row by row. What a file left open is decided as `bertsmith.table` does."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bertsmith.stream.base import Put, Stream, cell_of
from bertsmith.stream.packed import lines, put_line

LARGEST_CELL = 2**31 - 1


@dataclass
class Separated(Stream):
    """Rows of cells, all of them strings.

    Attributes:
        separator: between cells.
        quoted: quotes around a cell are not part of it; else they are characters like others, as in GLUE's tsv files.
        header: the first line has the names.
    """

    separator: str = ","
    quoted: bool = True
    header: bool = True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = _rows(self.path, self.separator, self.quoted)
        if self.header:
            next(rows)
        for _, row in rows:
            yield dict(zip(self.columns, row, strict=True))


def open_separated(path: Path, kind: str) -> Separated:
    """Look through a csv or tsv file once."""
    separator, quoted, notes = "\t" if kind == ".tsv" else ",", True, []
    if separator == ",":
        first = next((line for _, line in lines(path)), "")
        if "," not in first and (other := next((s for s in (";", "\t") if s in first), "")):
            separator = other
            notes.append(f"{path}: cells are separated by {'tabs' if other == chr(9) else 'semicolons'}")
    if separator == "\t":
        quoted = _is_quoted(path)
    start, count = None, 0
    for number, row in _rows(path, separator, quoted):
        start = start or row
        count += 1
        if len(row) != len(start):
            raise ValueError(f"{path}, line {number}, has {len(row)} cells where the first line has {len(start)}")
    if start is None:
        raise ValueError(f"{path} is empty")
    header = is_header(start)
    if not header:
        notes.append(f"{path}: no header; columns are named column_1 to column_{len(start)}")
    names = [cell.strip() for cell in start] if header else [f"column_{i + 1}" for i in range(len(start))]
    if len(set(names)) < len(names):
        raise ValueError(f"{path} names a column twice: {', '.join(map(repr, names))}")
    columns: dict[str, type] = dict.fromkeys(names, str)
    return Separated(path, columns, count - header, notes, None, separator, quoted, header)


def is_header(cells: list[str]) -> bool:
    """Whether a first line names columns: no number in it, no cell twice, none longer than 64 characters."""
    return len(set(cells)) == len(cells) and not any(_is_number(cell) or len(cell) > 64 for cell in cells)


def separated_writer(file: IO[bytes], path: Path, kind: str, columns: Iterable[str], like: Separated | None) -> Put:
    """What writes a row: where `like` is of the same kind, separator, quotes and the lack of a header are as they are there."""
    separator = like.separator if like else {".csv": ",", ".tsv": "\t"}[kind]
    raw = like is not None and separator == "\t" and not like.quoted
    put = _raw_writer(file, path) if raw else csv.writer(_Lines(file), delimiter=separator).writerow
    if like is None or like.header:
        put(columns)
    return lambda row: put([cell_of(row.get(name)) for name in columns])


def _rows(path: Path, separator: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, cells) of each row that is not blank, the header among them."""
    if not quoted:
        for number, line in lines(path):
            if line.strip("\r\n"):
                yield number, line.removesuffix("\n").removesuffix("\r").split("\t")
        return
    before = csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader((line for _, line in lines(path)), delimiter=separator, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}; a quote inside a quoted cell is written twice"
        ) from error
    finally:
        csv.field_size_limit(before)


def _is_quoted(path: Path) -> bool:
    """Of a tsv: whether quotes around cells are meant as such. They are where lines split into different numbers of cells, or
    where every cell that opens with a quote is well quoted, and one does."""
    size, opened, well = 0, False, True
    for _, row in _rows(path, "\t", False):
        size = size or len(row)
        if len(row) != size:
            return True
        for cell in row:
            if cell.startswith('"'):
                opened = True
                well &= len(cell) > 1 and cell.endswith('"') and '"' not in cell[1:-1].replace('""', "")
    return opened and well


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class _Lines:
    """What `csv.writer` writes to. Its rows end in CR LF, so that it quotes either of these in a cell; ours end in LF."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, text: str) -> None:
        put_line(self.file, text.removesuffix("\r\n"))


def _raw_writer(file: IO[bytes], path: Path) -> Callable[[Iterable[str]], None]:
    """Cells with tabs between them and nothing else."""

    def put(cells: Iterable[str]) -> None:
        cells = list(cells)
        if odd := [cell for cell in cells if any(c in cell for c in "\t\r\n")]:
            raise ValueError(
                f"{path} is written without quotes, and cannot hold {odd[0]!r:.60}; write .csv or .jsonl instead"
            )
        put_line(file, "\t".join(cells))

    return put
