"""Documents from files: a document is a list of paragraphs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bertsmith.corpus.lines import LONGEST, lines
from bertsmith.corpus.rows import csv_rows, jsonl_rows, parquet_rows
from bertsmith.corpus.skips import OnSkip, Skips
from bertsmith.corpus.sources import STDIN, kind_of, sources

LARGEST = 1 << 22  # characters of a document; what is longer goes on as the next document
ROWS = {".jsonl": jsonl_rows, ".csv": csv_rows, ".parquet": parquet_rows}


def documents(
    paths: str | Path | Sequence[str | Path], on_skip: OnSkip | None = None, field: str = "text"
) -> Iterator[list[str]]:
    """Every document of the inputs, in order, each a list of non-blank paragraphs; never an empty list.

    Args:
        paths: files, folders, globs, "-" for stdin (see `sources`). In .txt one paragraph a line, blank lines between
            documents; in .jsonl, .csv and .parquet one document a row, its line ends separating paragraphs.
        on_skip: called as `on_skip(reason, where)` for all that is left out or mended; a `Skips` counts it.
        field: the column of the text in .jsonl, .csv and .parquet.

    Memory: at most 4 Mi characters of text and one line, whatever the inputs: longer lines and documents are cut and
    counted. A file that vanishes, breaks off, is empty or is not text is counted, never an error.

    Raises:
        FileNotFoundError, ValueError: an input names nothing, or a kind of file that cannot be read.
    """
    report = Skips() if on_skip is None else on_skip
    for path in sources(paths):
        kind = ".txt" if path == STDIN else kind_of(path)
        if kind == ".txt":
            yield from _bounded(_paragraphs(path, report), path, report)
        elif kind is not None:
            for text in ROWS[kind](path, field, report):
                yield from _bounded(iter(_cut(text, path, report)), path, report)


def _paragraphs(path: str, on_skip: OnSkip) -> Iterator[str]:
    """Paragraphs; "" where a document ends."""
    for line in lines(path, on_skip):
        yield line if line and not line.isspace() else ""


def _cut(text: str, path: str, on_skip: OnSkip) -> list[str]:
    out = []
    for line in text.split("\n"):
        while len(line) > LONGEST:
            on_skip("line of more than 1 MiB, cut", path)
            at = line.rfind(" ", LONGEST // 2, LONGEST) + 1 or LONGEST
            out.append(line[:at])
            line = line[at:]
        if line and not line.isspace():
            out.append(line)
    return out


def _bounded(paragraphs: Iterator[str], path: str, on_skip: OnSkip) -> Iterator[list[str]]:
    document: list[str] = []
    size = 0
    for line in paragraphs:
        if line and size + len(line) > LARGEST:
            on_skip("document of more than 4 Mi characters, cut", path)
        if document and (not line or size + len(line) > LARGEST):
            yield document
            document, size = [], 0
        if line:
            document.append(line)
            size += len(line)
    if document:
        yield document
