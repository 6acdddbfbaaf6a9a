"""Tables of examples: csv, tsv, jsonl, json, parquet, a pandas DataFrame or a list of dicts, read into plain columns.

Nothing is guessed in silence: what a file left open (its separator, whether it has a header, which column is the
text) is decided by a rule written here and said aloud, through `say`, in one line each.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Say = Callable[[str], None]

TEXT_NAMES = (
    "text",
    "sentence",
    "sentence1",
    "text1",
    "text_a",
    "texta",
    "question1",
    "premise",
    "#1 string",
    "review",
    "content",
)
TEXT_NAMES += (
    "comment",
    "tweet",
    "body",
    "document",
    "query",
    "question",
    "utterance",
    "title",
    "string",
    "abstract",
    "message",
)
PAIR_NAMES = (
    "pair",
    "sentence2",
    "text2",
    "text_b",
    "textb",
    "question2",
    "hypothesis",
    "#2 string",
    "answer",
    "context",
)
LABEL_NAMES = (
    "label",
    "labels",
    "target",
    "targets",
    "gold_label",
    "class",
    "category",
    "sentiment",
    "score",
    "rating",
    "intent",
    "similarity",
)
LABEL_NAMES += ("stars", "quality", "topic", "tags", "emotion", "y")
FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def aloud(line: str) -> None:
    """Say one line to a person: on standard error, so that standard output stays data."""
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Table:
    """Columns of equal length in the order of the source. A missing cell is None.

    name: what to call the table in messages, usually its path.
    columns: column name -> cells (str, int, float, bool, list or None).
    """

    name: str
    columns: dict[str, list[Any]]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def column(self, name: str) -> list[Any]:
        """The cells of a column. KeyError, listing the columns there are, if it is not one of them."""
        if name not in self.columns:
            raise KeyError(f"{self.name} has no column {name!r}; it has: {', '.join(map(repr, self.columns))}")
        return self.columns[name]


def read_table(source: Any, *, header: bool | None = None, say: Say = aloud) -> Table:
    """Read `source` whole.

    source: a path (.csv .tsv .jsonl .ndjson .json .parquet; text formats also with .gz or .xz behind), a pandas
    DataFrame,
        a list of dicts, or a Table.
    header: csv and tsv only. None decides: a first line with a number in it, or a cell twice, or one longer than 64
        characters, is a row and not a header; its columns are then named column_1, column_2, and so on.
    Raises FileNotFoundError, or ValueError naming the file and line that cannot be read.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, list):
        return _from_records("the list", source, range(1, len(source) + 1))
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return _table(
            "the DataFrame", {str(name): [_cell(x) for x in source[name].tolist()] for name in source.columns}, []
        )
    if not isinstance(source, str | Path):
        raise TypeError(f"a table is a path, a pandas DataFrame or a list of dicts; got {type(source).__name__}")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {str(path)!r}; a table is one file: {', '.join(FORMATS)}, text also as .gz or .xz"
        )
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".xz") else ""
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet" and not packed:
        return _read_parquet(path)
    if kind not in FORMATS or kind == ".parquet":
        raise ValueError(
            f"{path} ends in neither of {', '.join(FORMATS)} (text also with .gz or .xz); rename it to say what it is"
        )
    text = read_whole(path)
    if kind in (".jsonl", ".ndjson"):
        return _read_jsonl(str(path), text)
    if kind == ".json":
        return _read_json(str(path), text)
    return _read_separated(str(path), text, "\t" if kind == ".tsv" else ",", header, say)


def guess(
    table: Table, text: str | None = None, pair: str | None = None, label: str | None = None, say: Say = aloud
) -> tuple[str, str | None, str]:
    """The names of the text, pair and label columns; what is given is kept, what is not is guessed and said.

    First by the usual names (`text`, `sentence1`, `premise`, `label`, ...), in upper or lower case. Failing that,
    the text is the column of strings that is longest on average, and the label the one other column left, or the
    one with by far the fewest different values. A pair is only ever taken by name, and only next to a first text of
    the same naming. ValueError, listing the columns, where no rule decides.
    """
    for name in (text, pair, label):
        if name is not None:
            table.column(name)
    lower = {name.strip().lower(): name for name in reversed(list(table.columns))}
    taken = {name for name in (text, pair, label) if name is not None}
    guessed: list[str] = []

    def named(names: Sequence[str]) -> str | None:
        return next((lower[n] for n in names if n in lower and lower[n] not in taken), None)

    if label is None:
        label = named(LABEL_NAMES)
        guessed += [f"label={label!r}"] if label else []
        taken |= {label} if label else set()
    text_was_given = text is not None
    if text is None:
        text = named(TEXT_NAMES) or _longest(table, taken)
        if text is None:
            raise ValueError(
                f"which column of {table.name} is the text? Say text=... of {', '.join(map(repr, table.columns))}"
            )
        guessed.insert(0, f"text={text!r}")
        taken.add(text)
    if pair is None and not text_was_given:
        pair = named(PAIR_NAMES)
        guessed += [f"pair={pair!r}"] if pair else []
        taken |= {pair} if pair else set()
    if label is None:
        label = _fewest(table, taken)
        if label is None:
            raise ValueError(
                f"which column of {table.name} is the label? Say label=... of {', '.join(map(repr, table.columns))}"
            )
        guessed.append(f"label={label!r}")
    if guessed:
        say(f"{table.name}: columns guessed: {', '.join(guessed)}")
    return text, pair, label


def _longest(table: Table, taken: set[str]) -> str | None:
    """The column of strings that is longest on average."""
    size = {}
    for name, cells in table.columns.items():
        strings = [x for x in cells if isinstance(x, str)]
        if name not in taken and strings and not all(_number(x) is not None for x in strings):
            size[name] = sum(map(len, strings)) / len(strings)
    return max(size, key=lambda name: size[name]) if size else None


def _fewest(table: Table, taken: set[str]) -> str | None:
    """The only other column, or the one with fewer than half as many different values as the next."""
    count = {
        name: len({json.dumps(x, default=str) for x in cells})
        for name, cells in table.columns.items()
        if name not in taken
    }
    count = {name: n for name, n in count.items() if n > 1}
    order = sorted(count, key=lambda name: count[name])
    if len(order) == 1 or (len(order) > 1 and 2 * count[order[0]] < count[order[1]]):
        return order[0]
    return None


def _number(cell: str) -> float | None:
    """The number that a cell spells, or None."""
    try:
        return float(cell)
    except ValueError:
        return None


def _cell(value: Any) -> Any:
    """A plain Python cell: NaN and NA are None, NumPy scalars and arrays are their Python counterparts."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, np.generic | np.ndarray):
        return _cell(value.tolist())
    if type(value).__module__.split(".")[0] == "pandas":
        return None if str(value) in ("<NA>", "NaT") else str(value)
    return [_cell(x) for x in value] if isinstance(value, list | tuple) else value


def _table(name: str, columns: dict[str, list[Any]], notes: list[str]) -> Table:
    """A Table that has at least one column and one row."""
    table = Table(name, columns, notes)
    if not len(table):
        raise ValueError(f"{name} has no rows")
    return table


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a parquet file that can be read: {error}") from error
    return _table(
        str(path),
        {
            name: [_cell(x) for x in column.to_pylist()]
            for name, column in zip(found.column_names, found.columns, strict=True)
        },
        [],
    )


def read_whole(path: Path) -> str:
    """The text of a file, UTF-8 with or without a byte order mark, unpacked if it ends in .gz or .xz.

    Raises ValueError, naming the line, where it cannot be read.
    """
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            raw = file.read()
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}, is not UTF-8 (byte {raw[error.start]:#04x}); convert it, for example with iconv"
        ) from error


def _read_jsonl(name: str, text: str) -> Table:
    records, lines = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{name}, line {number}, is not JSON: {error.msg}") from error
            lines.append(number)
    return _from_records(name, records, lines)


def _read_json(name: str, text: str) -> Table:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name}, line {error.lineno}, is not JSON: {error.msg} (one object a line is .jsonl)"
        ) from error
    if not isinstance(records, list):
        raise ValueError(f"{name} must hold a list of objects, not one {type(records).__name__}")
    return _from_records(name, records, range(1, len(records) + 1))


def _from_records(name: str, records: list[Any], places: Sequence[int]) -> Table:
    """Columns of a list of dicts; a key that a record lacks is None there."""
    for record, place in zip(records, places, strict=True):
        if not isinstance(record, dict):
            raise ValueError(f"{name}, entry {place}, is not an object with named fields but {type(record).__name__}")
    names = dict.fromkeys(str(key) for record in records for key in record)
    return _table(name, {key: [_cell(record.get(key)) for record in records] for key in names}, [])


def _read_separated(name: str, text: str, separator: str, header: bool | None, say: Say) -> Table:
    """csv and tsv. Every row must have as many cells as the first."""
    notes: list[str] = []
    first = text.split("\n", 1)[0]
    if separator == "," and "," not in first and (other := next((s for s in (";", "\t") if s in first), "")):
        separator = other
        notes.append(f"{name}: cells are separated by {'tabs' if other == chr(9) else 'semicolons'}")
    rows = _tab_rows(name, text) if separator == "\t" else _quoted_rows(name, text, separator)
    if not rows:
        raise ValueError(f"{name} is empty")
    if header is None:
        start = rows[0]
        header = len(set(start)) == len(start) and all(_number(cell) is None and len(cell) <= 64 for cell in start)
        if not header:
            notes.append(f"{name}: no header; columns are named column_1 to column_{len(start)}")
    names = [cell.strip() for cell in rows.pop(0)] if header else [f"column_{i + 1}" for i in range(len(rows[0]))]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} names a column twice: {', '.join(map(repr, names))}")
    for note in notes:
        say(note)
    return _table(name, {key: [row[i] for row in rows] for i, key in enumerate(names)}, notes)


def _quoted_rows(name: str, text: str, separator: str) -> list[list[str]]:
    """Rows as RFC 4180 has them: a quoted cell may hold separators, line ends and doubled quotes."""
    before = csv.field_size_limit(2**31 - 1)
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0]):
                raise ValueError(
                    f"{name}, line {reader.line_num}, has {len(row)} cells where the first line has {len(rows[0])}"
                )
            rows += [row] if row else []
    except csv.Error as error:
        raise ValueError(
            f"{name}, line {reader.line_num}: {error}; a quote inside a quoted cell is written twice"
        ) from error
    finally:
        csv.field_size_limit(before)
    return rows


def _tab_rows(name: str, text: str) -> list[list[str]]:
    """Rows of a tsv. Most are written without quoting (GLUE: a quote is a character), some with (pandas).

    If every line splits into the same number of cells, lines are rows, and quotes are taken off only if each cell
    that opens with one is well quoted. If not, the file is read as quoted.
    """
    rows = [line.removesuffix("\r").split("\t") for line in text.split("\n") if line.strip("\r\n")]
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if uneven is not None:
        try:
            return _quoted_rows(name, text, "\t")
        except ValueError:
            raise ValueError(
                f"{name}, row {uneven + 1}, has {len(rows[uneven])} cells where the first has {len(rows[0])}"
            ) from None
    opening = [cell for row in rows for cell in row if cell.startswith('"')]
    quoted = all(len(cell) > 1 and cell.endswith('"') and '"' not in cell[1:-1].replace('""', "") for cell in opening)
    return (
        [[cell[1:-1].replace('""', '"') if cell.startswith('"') else cell for cell in row] for row in rows]
        if quoted
        else rows
    )
