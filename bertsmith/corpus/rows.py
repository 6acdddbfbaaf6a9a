"""The text column of tables: one document a row, from .jsonl, .csv and .parquet."""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from bertsmith.corpus.lines import BROKEN_READ, LONGEST, lines, open_bytes
from bertsmith.corpus.skips import OnSkip


def jsonl_rows(path: str, field: str, on_skip: OnSkip) -> Iterator[str]:
    """The text of each line: the line itself if it is a JSON string, else its `field`."""
    for number, line in enumerate(lines(path, on_skip), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            on_skip("line that is not JSON", f"{path} line {number}")
            continue
        text = row.get(field) if isinstance(row, dict) else row
        if isinstance(text, str):
            yield text
        else:
            on_skip(f"row without text in the field {field!r}", f"{path} line {number}")


def csv_rows(path: str, field: str, on_skip: OnSkip) -> Iterator[str]:
    """The `field` column of a .csv with a header, or its only column. Quoted fields may hold line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    rows = csv.reader(line + "\n" for line in lines(path, on_skip))
    column: int | None = None
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            on_skip(f"row that is not CSV ({error})", f"{path} line {rows.line_num}")
            continue
        if not row:
            continue
        if column is None:
            if field not in row and len(row) > 1:
                on_skip(f"table without a column {field!r}, not read", f"{path} (has {', '.join(row)[:200]})")
                return
            column = row.index(field) if field in row else 0
        elif column < len(row):
            yield row[column]
        else:
            on_skip(f"row without text in the field {field!r}", f"{path} line {rows.line_num}")


def parquet_rows(path: str, field: str, on_skip: OnSkip) -> Iterator[str]:
    """The `field` column of a .parquet, or its only column, a few hundred rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with tempfile.TemporaryFile() as plain:
            source: Any = path
            if not path.lower().endswith(".parquet"):  # the footer comes last, so a compressed one is unpacked first
                with open_bytes(path) as packed:
                    shutil.copyfileobj(packed, plain)
                source = plain
            with pq.ParquetFile(source, pre_buffer=False, memory_map=False) as table:
                names = table.schema_arrow.names
                name = field if field in names or len(names) != 1 else names[0]
                if name not in names:
                    on_skip(f"table without a column {field!r}, not read", f"{path} (has {', '.join(names)[:200]})")
                    return
                for batch in table.iter_batches(batch_size=256, columns=[name]):
                    for text in batch.column(0).to_pylist():
                        if isinstance(text, str):
                            yield text
                        else:
                            on_skip(f"row without text in the field {field!r}", path)
    except (*BROKEN_READ, pa.ArrowException) as error:
        on_skip(f"file could not be read to its end ({str(error)[:200]})", path)
