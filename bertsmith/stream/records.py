"""Objects with named fields, one a line (jsonl) or in one list (json), and texts, one a line (txt)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import IO, Any

from bertsmith.stream.base import Put, Stream, cell_of, json_of
from bertsmith.stream.packed import blocks, lines, put_line

CUT = 16  # characters: an error so near to the end of what is held may be for want of the rest
BLANK = re.compile(r"[ \t\r\n]*")


class Lines(Stream):
    """jsonl: an object a line; blank lines are none."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (record for _, record in _line_records(self.path))


class Array(Stream):
    """json: one list of objects."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (record for _, record in _array_records(self.path))


class Texts(Stream):
    """txt: a text a line, which is the column "text"; a blank line is a row, too."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"text": line.rstrip("\r\n")} for _, line in lines(self.path))


def open_lines(path: Path) -> Lines:
    return Lines(path, *_looked_through(_line_records(path)))


def open_array(path: Path) -> Array:
    return Array(path, *_looked_through(_array_records(path)))


def open_texts(path: Path) -> Texts:
    return Texts(path, {"text": str}, sum(1 for _ in lines(path)))


def _looked_through(records: Iterator[tuple[int, dict[str, Any]]]) -> tuple[dict[str, type], int]:
    """(all keys that occur, each with the type of its cells; how many records there are)."""
    seen: dict[str, set[type]] = {}
    count = 0
    for _, record in records:
        count += 1
        for name, cell in record.items():
            seen.setdefault(name, set()).update([] if cell is None else [type(cell)])
    return {name: _common(types) for name, types in seen.items()}, count


def _common(types: set[type]) -> type:
    for one, held in ((bool, {bool}), (int, {int}), (float, {int, float})):
        if types and types <= held:
            return one
    return str


def _line_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}, is not JSON: {error.msg}") from error
            yield number, _object(record, path, number)


def _array_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the line where it begins, object)."""
    window = _Window(path)
    if window.next() != "[":
        raise ValueError(f"{path} must hold a list of objects, [...]; one object a line is .jsonl")
    window.at += 1
    mark = "]" if window.next() == "]" else ","
    while mark == ",":
        window.next()
        number = window.line(window.at)
        yield number, _object(window.value(), path, number)
        mark = window.next()
        if mark not in (",", "]"):
            raise window.damaged("Expecting ',' or ']'", window.at)
        window.at += mark == ","
    window.at += 1
    if window.next():
        raise window.damaged("something stands behind the list", window.at)


class _Window:
    """The part of a JSON file that is held: an object and a block or two.

    Attributes:
        at: the place in `text` up to which all is read.
        whole: `text` reaches to the end of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.blocks, self.decoder = path, blocks(path), json.JSONDecoder()
        self.text, self.at, self.before, self.whole = "", 0, 0, False

    def next(self) -> str:
        """Go to the next character that is not blank; "" at the end."""
        while True:
            found = BLANK.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or self.whole:
                return self.text[self.at : self.at + 1]
            self._read_on()

    def value(self) -> Any:
        """The value that begins here. An error that is not at the end of what is held is a damage, and no more is read."""
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.whole:  # else a number may go on
                    self.at = end
                    return found
            except json.JSONDecodeError as error:
                short = error.msg.startswith("Unterminated string") or error.pos + CUT >= len(self.text)
                if self.whole or not short:
                    raise self.damaged(error.msg, error.pos) from error
            self._read_on()

    def line(self, place: int) -> int:
        """The number of the line in which a place of `text` is."""
        return 1 + self.before + self.text.count("\n", 0, place)

    def damaged(self, message: str, place: int) -> ValueError:
        return ValueError(f"{self.path}, line {self.line(place)}, is not JSON: {message}")

    def _read_on(self) -> None:
        """Let go of what is read, and hold twice as much of the rest."""
        self.before += self.text.count("\n", 0, self.at)
        parts = [self.text[self.at :]]
        wanted = 2 * len(parts[0]) + 1
        while sum(map(len, parts)) < wanted and not self.whole:
            block = next(self.blocks, None)
            self.whole = block is None
            parts.append(block or "")
        self.text, self.at = "".join(parts), 0


def _object(record: Any, path: Path, number: int) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {number}, is not an object with named fields but {type(record).__name__}")
    return record


def lines_writer(file: IO[bytes]) -> Put:
    """A row is an object of what is in it, on a line."""
    return lambda row: put_line(file, json_of(row))


@contextmanager
def array_writer(file: IO[bytes]) -> Iterator[Put]:
    """As `lines_writer`, with the marks of a list around and between the lines."""
    marks = chain(["[\n"], repeat(",\n"))

    def put(row: dict[str, Any]) -> None:
        file.write((next(marks) + json_of(row)).encode())

    yield put
    file.write(b"\n]\n")


def texts_writer(file: IO[bytes], path: Path, name: str) -> Put:
    """One column, a cell a line. ValueError for a cell that is more than one."""

    def put(row: dict[str, Any]) -> None:
        cell = cell_of(row.get(name))
        if "\n" in cell or "\r" in cell:
            raise ValueError(f"{path} has a line for each {name}, and cannot hold {cell!r:.60}; write .jsonl instead")
        put_line(file, cell)

    return put
