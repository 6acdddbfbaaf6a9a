"""Files of cells, as the sets have them, and examples made of their columns."""

import csv
import io
from pathlib import Path

from bertsmith.examples import Examples
from bertsmith.labelled.source import read_text


def tab_cells(path: Path, skip: int = 0) -> list[list[str]]:
    """The cells of each line after the first `skip`, between tabs; quotes are letters."""
    return [line.split("\t") for line in read_text(path).split("\n")[skip:] if line.strip()]


def comma_cells(path: Path, skip: int = 0) -> list[list[str]]:
    """The cells of each row of a csv file after the first `skip`."""
    return list(csv.reader(io.StringIO(read_text(path), newline="")))[skip:]


def columns(rows: list[list[str]], text: int, label: int, pair: int | None = None) -> Examples:
    """Examples whose text, label and second text stand in these columns."""
    first, said = ([row[number].strip() for row in rows] for number in (text, label))
    return Examples(first, None if pair is None else [row[pair].strip() for row in rows], said)
