"""Texts to encode or to predict on: lines of a file or of the standard input, or columns of a table."""

import sys
from pathlib import Path

from bertsmith.table import PAIR_NAMES, TEXT_NAMES, read_table, read_whole


def read_texts(source: str, text: str | None = None, pair: str | None = None) -> tuple[list[str], list[str] | None]:
    """(texts, second texts or None) of a source.

    Args:
        source: "-" (one text a line), a .txt file (the same; also .gz or .xz), or a table (csv, tsv, jsonl, parquet).
        text, pair: columns of a table. Without them: its only column, or one with a usual name.

    Raises:
        FileNotFoundError: no such file. KeyError: no such column. ValueError: none is plainly the
            text, or it is not UTF-8.
    """
    if source == "-":
        return [line.rstrip("\r\n") for line in sys.stdin if line.strip()], None
    path = Path(source)
    if path.name.removesuffix(".gz").removesuffix(".xz").endswith(".txt"):
        if not path.is_file():
            raise FileNotFoundError(
                f"no file {source!r}; it is a .txt (a text a line), a table, or - for the standard input"
            )
        return [line.removesuffix("\r") for line in read_whole(path).split("\n") if line.strip()], None
    table = read_table(source)
    names = list(table.columns)
    if text is None:
        text = names[0] if len(names) == 1 else next((n for n in names if n.strip().lower() in TEXT_NAMES), None)
        if text is None:
            raise ValueError(f"which column of {source} is the text? Say --text NAME; there are: {', '.join(names)}")
        if pair is None:
            pair = next((n for n in names if n.strip().lower() in PAIR_NAMES and n != text), None)
    rows = [[str(cell or "") for cell in table.column(name)] for name in (text, pair) if name is not None]
    return rows[0], rows[1] if pair is not None else None
