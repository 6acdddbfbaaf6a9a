"""Lines of text from a byte stream, in bounded memory, whatever the bytes are."""

import gzip
import lzma
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from bertsmith.corpus.skips import OnSkip
from bertsmith.corpus.sources import STDIN

BLOCK = 1 << 20
LONGEST = 1 << 20  # bytes of a line; what is longer is cut
BROKEN_READ = (EOFError, lzma.LZMAError, zlib.error, OSError)


def open_bytes(path: str) -> BinaryIO:
    """The bytes of a file, of a .gz or .xz unpacked, or of stdin for "-"."""
    if path == STDIN:
        return sys.stdin.buffer
    if path.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return cast(BinaryIO, lzma.open(path, "rb")) if path.lower().endswith(".xz") else open(path, "rb")


def lines(path: str, on_skip: OnSkip) -> Iterator[str]:
    """The lines of a file, without their line ends.

    Memory: one block and one line, about 4 MB, also for a file that is one endless line: a line of more than 1 MiB
    is cut at a space, and counted. Bytes that are not UTF-8 are replaced by U+FFFD (which BERT's normaliser removes)
    and their line counted. A file that cannot be read, or not to its end, is counted; what came before stays.
    """
    number = 0
    for block in _blocks(path, on_skip):
        try:
            text = block.decode()
        except UnicodeDecodeError:
            text = _mend(block, path, number, on_skip)
        found = text.split("\n")
        for line in found:
            yield line.removesuffix("\r")
        number += len(found)


def _blocks(path: str, on_skip: OnSkip) -> Iterator[bytes]:
    """Bytes of whole lines, the last line's end taken off."""
    rest = b""
    try:
        with open_bytes(path) as file:
            first = file.read(BLOCK)
            if not first:
                on_skip("empty file", path)
            if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
                on_skip("file in UTF-16, not read: convert it to UTF-8", path)
                return
            block = first.removeprefix(b"\xef\xbb\xbf")
            while block:
                rest += block
                head, end, tail = rest.rpartition(b"\n")
                if end:
                    rest = tail
                    yield _cut(head, path, on_skip)
                elif len(rest) > LONGEST:
                    on_skip("line of more than 1 MiB, cut", path)
                    at = _seam(rest, LONGEST)
                    yield rest[:at]
                    rest = rest[at:]
                block = file.read(BLOCK)
    except BROKEN_READ as error:
        on_skip(f"file could not be read to its end ({_why(error)})", path)
    if rest:
        yield rest


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _cut(block: bytes, path: str, on_skip: OnSkip) -> bytes:
    """The same with a line end put into every line that is too long."""
    if len(block) <= LONGEST:
        return block
    parts = []
    for line in block.split(b"\n"):
        while len(line) > LONGEST:
            on_skip("line of more than 1 MiB, cut", path)
            at = _seam(line, LONGEST)
            parts.append(line[:at])
            line = line[at:]
        parts.append(line)
    return b"\n".join(parts)


def _seam(line: bytes, most: int) -> int:
    """Where to cut: behind a space if there is one in the last half, else between two UTF-8 characters."""
    if (space := line.rfind(b" ", most // 2, most)) > 0:
        return space + 1
    at = most
    while at > most - 4 and line[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _mend(block: bytes, path: str, number: int, on_skip: OnSkip) -> str:
    out = []
    for at, line in enumerate(block.split(b"\n"), number + 1):
        try:
            out.append(line.decode())
        except UnicodeDecodeError:
            on_skip("line that is not UTF-8, its bad bytes replaced", f"{path} line {at}")
            out.append(line.decode(errors="replace"))
    return "\n".join(out)
