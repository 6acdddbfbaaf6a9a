"""Reading text: every kind of file, everything that can be wrong with one, and bounded memory."""

import csv
import gzip
import io
import json
import lzma
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.corpus.lines import LONGEST
from bertsmith.corpus.read import LARGEST, documents
from bertsmith.corpus.skips import Skips
from bertsmith.corpus.sources import sources

DOCUMENTS = [["One paragraph.", "Zwei: Füße."], ["第三 段落"], ['A "quoted", one', "x"]]
TXT = "\n\n".join("\n".join(document) for document in DOCUMENTS) + "\n"
ROWS = ["\n".join(document) for document in DOCUMENTS]


def read(*paths: Path | str) -> tuple[list[list[str]], Skips]:
    skips = Skips()
    return list(documents([str(p) for p in paths], skips)), skips


def write(path: Path) -> Path:
    """The same documents in the kind of file that the name says."""
    kind = path.name.removesuffix(".gz").removesuffix(".xz").rpartition(".")[2]
    buffer = io.StringIO()
    if kind == "csv":
        csv.writer(buffer).writerows([["id", "text"], *([i, row] for i, row in enumerate(ROWS))])
    elif kind == "jsonl":
        buffer.write("".join(json.dumps({"text": row}) + "\n" for row in ROWS))
    else:
        buffer.write(TXT)
    content = buffer.getvalue().encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": [1, 2, 3], "text": ROWS}), sink)
        content = sink.getvalue()
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(content))
    return path


@pytest.mark.parametrize("packed", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet"])
def test_every_kind_gives_the_same_documents(tmp_path: Path, kind: str, packed: str) -> None:
    found, skips = read(write(tmp_path / f"a.{kind}{packed}"))
    assert found == DOCUMENTS
    assert skips.count == {}


def test_folders_globs_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    first, second = write(tmp_path / "deep" / "b.jsonl.gz"), write(tmp_path / "a.txt")
    (tmp_path / "notes.md").write_text("not a corpus")
    assert sources(tmp_path) == [str(second), str(first)]
    assert sources([str(tmp_path / "*.txt"), tmp_path]) == [str(second), str(first)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TXT.encode())))
    assert read("-")[0] == DOCUMENTS


def test_what_names_nothing_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        sources("nowhere/*.txt")
    with pytest.raises(FileNotFoundError, match="holds no .txt"):
        sources(tmp_path)
    with pytest.raises(ValueError, match="no input"):
        sources([])
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(ValueError, match="must end in"):
        sources(tmp_path / "a.pdf")


def test_windows_line_ends_and_marks_are_taken_off(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n \t\r\n\r\nthree")
    assert read(tmp_path / "a.txt")[0] == [["one", "two"], ["three"]]


def test_broken_files_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("gut\nschön\nja".encode("latin-1"))
    (tmp_path / "wide.txt").write_bytes("wide".encode("utf-16"))
    (tmp_path / "short.txt.xz").write_bytes(lzma.compress(b"cut off\n" * 9)[:-20])
    (tmp_path / "fake.txt.gz").write_bytes(b"no gzip")
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n{"other": 1}\n"a string"\n')
    (tmp_path / "bad.csv").write_text("id,body\n1,x\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    found, skips = read(tmp_path)
    assert ["gut", "sch\ufffdn", "ja"] in found and ["fine"] in found and ["a string"] in found
    reasons = " | ".join(skips.count)
    for part in (
        "empty file",
        "UTF-16",
        "not UTF-8",
        "not JSON",
        "without text in the field 'text'",
        "without a column 'text'",
    ):
        assert part in reasons
    assert sum(n for why, n in skips.count.items() if "to its end" in why) == 3
    assert "latin.txt line 2" in skips.message()


def test_a_file_that_vanishes_is_counted(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.txt"), write(tmp_path / "b.txt")
    skips = Skips()
    stream = documents([first, second], skips)
    found = [next(stream)]
    second.unlink()
    assert [*found, *stream] == DOCUMENTS
    assert skips.message() == f"1 x file could not be read to its end (No such file or directory) (first: {second})"


def test_an_endless_line_is_cut_in_bounded_memory(tmp_path: Path) -> None:
    size = 24 << 20
    with gzip.open(tmp_path / "a.txt.gz", "wb", compresslevel=1) as file:
        for _ in range(size >> 20):
            file.write("äb ".encode() * ((1 << 20) // 4))
    skips, total = Skips(), 0
    tracemalloc.start()
    for document in documents(tmp_path / "a.txt.gz", skips):
        total += sum(len(line.encode()) for line in document)
        assert all(len(line.encode()) <= LONGEST for line in document)
        assert sum(map(len, document)) <= LARGEST
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == size  # cut at spaces: no byte is lost
    assert peak < 40e6
    assert skips.count["line of more than 1 MiB, cut"] >= 22
    assert skips.count["document of more than 4 Mi characters, cut"] >= 3


def test_long_values_in_tables_are_cut_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps("wort " * 150_000) + "\n" + json.dumps("short"))
    found, skips = read(tmp_path / "a.jsonl")
    assert [len(d) for d in found] == [1, 1] and not skips.count
    pq.write_table(pa.table({"text": ["x" * (2 * LONGEST + 1)]}), tmp_path / "b.parquet")
    found, skips = read(tmp_path / "b.parquet")
    assert [len(line) for line in found[0]] == [LONGEST, LONGEST, 1]
    assert skips.count == {"line of more than 1 MiB, cut": 2}
