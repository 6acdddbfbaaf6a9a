"""Text on the disk, plain or packed (.gz, .xz): lines and blocks of it, and files that are there whole or not at all."""

from __future__ import annotations

import codecs
import gzip
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bertsmith.files import PARTIAL

OPENERS = {".gz": gzip.open, ".xz": lzma.open, "": open}
BLOCK = 1 << 16  # bytes


def packing(path: Path) -> str:
    """ ".gz", ".xz" or ""."""
    return path.suffix.lower() if path.suffix.lower() in OPENERS else ""


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file. ValueError where they cannot be unpacked."""
    try:
        with OPENERS[packing(path)](path, "rb") as file:
            yield file  # type: ignore[misc]
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line with its end) in UTF-8, without a byte order mark."""
    with unpacked(path) as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, error) from error


def blocks(path: Path) -> Iterator[str]:
    """The text of a file in pieces of some kilobytes, for what need not have lines."""
    decoder, number = codecs.getincrementaldecoder("utf-8-sig")(), 1
    with unpacked(path) as file:
        while True:
            raw = file.read(BLOCK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number + error.object.count(b"\n", 0, error.start), error) from error
            number += text.count("\n")
            yield text
            if not raw:
                return


def _not_utf8(path: Path, number: int, error: UnicodeDecodeError) -> ValueError:
    byte = error.object[error.start]
    return ValueError(f"{path}, line {number}, is not UTF-8 (byte {byte:#04x}); convert it, for example with iconv")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to under another name, which becomes `path` at the end; a failure leaves nothing."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with open(partial, "wb") as plain:
            kind = packing(path)
            if kind == ".gz":
                with gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as file:  # the same rows are the same bytes
                    yield file  # type: ignore[misc]
            elif kind == ".xz":
                with lzma.LZMAFile(plain, "wb") as file:
                    yield file  # type: ignore[misc]
            else:
                yield plain
            plain.flush()
            os.fsync(plain.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def put_line(file: IO[bytes], line: str) -> None:
    file.write(line.encode() + b"\n")
