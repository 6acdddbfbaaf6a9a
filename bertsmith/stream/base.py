"""What a table on the disk is to whoever reads it row by row."""

from __future__ import annotations

import datetime
import decimal
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Put = Callable[[dict[str, Any]], None]  # writes a row
ODD = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, bytes)  # cells of parquet that JSON has not


@dataclass
class Stream(ABC):
    """A table that was looked through once, and can be read again.

    Attributes:
        columns: their names, in order, and of which type all their cells are; str where they are of several, or of none of
            str, int, float and bool.
        count: how many rows there are.
        notes: what was decided, for people.
        keep: what must live as long as the file is read.
    """

    path: Path
    columns: dict[str, type]
    count: int
    notes: list[str] = field(default_factory=list)
    keep: Any = None

    @abstractmethod
    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each row: column name -> cell; a key that a record lacks is not there."""


def cell_of(value: Any) -> str:
    """A cell of csv, tsv and txt: a string as it is, nothing for None, and all else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return str(value) if isinstance(value, ODD) else json_of(value)


def json_of(value: Any) -> str:
    """JSON in one line; dates and other cells that it has no form for are strings."""
    return json.dumps(value, ensure_ascii=False, default=str)
