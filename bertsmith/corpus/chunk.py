"""Work is split into chunks of whole documents; one chunk of text becomes one shard of tokens."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bertsmith.corpus.encode import Encoder
from bertsmith.files import write_atomic

Documents = list[list[str]]
SUFFIXES = (".tokens", ".lines", ".documents")
BATCH = 1 << 18  # characters encoded at once


class Chunk(NamedTuple):
    """The `number`-th stretch of the corpus and a digest of its text."""

    number: int
    documents: Documents
    digest: str


def name_of(number: int) -> str:
    """The file name, without its ending, of a shard."""
    return f"shard-{number:05d}"


def chunks(documents: Iterable[list[str]], size: int) -> Iterator[Chunk]:
    """Cuts a stream of documents where `size` characters are reached; depends on nothing else."""
    number, held, count = 0, [], 0
    for document in documents:
        held.append(document)
        count += sum(map(len, document))
        if count >= size:
            yield Chunk(number, held, _digest(held))
            number, held, count = number + 1, [], 0
    if held:
        yield Chunk(number, held, _digest(held))


def _digest(documents: Documents) -> str:
    text = "\n\n".join(["\n".join(document) for document in documents])
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def write_shard(chunk: Chunk, encoder: Encoder, folder: Path, record: Path) -> dict[str, Any]:
    """Encode a chunk and write `.tokens`, `.lines`, `.documents`, then its record; returns the record.

    Paragraphs without a token, and documents without a paragraph, are left out and counted in the record.
    """
    lines = [line for document in chunk.documents for line in document]
    encoded: list[bytes] = []
    for batch in _batches(lines):
        encoded += encoder(batch)
    size_N = np.array([len(ids) // encoder.dtype.itemsize for ids in encoded], np.int64)
    kept_N = size_N > 0
    owner_N = np.repeat(np.arange(len(chunk.documents)), [len(document) for document in chunk.documents])
    per_document = np.bincount(owner_N[kept_N], minlength=len(chunk.documents))
    token_count = int(size_N.sum())
    content = (b"".join(encoded), _offsets(size_N[kept_N]), _offsets(per_document[per_document > 0]))
    for suffix, data in zip(SUFFIXES, content, strict=True):
        write_atomic(folder / (name_of(chunk.number) + suffix), data)
    result = {
        "digest": chunk.digest,
        "tokens": token_count,
        "lines": int(kept_N.sum()),
        "documents": int((per_document > 0).sum()),
        "words": sum(len(line.split()) for line in lines),
        "empty_lines": int((~kept_N).sum()),
        "empty_documents": int((per_document == 0).sum()),
    }
    write_atomic(record, json.dumps(result))
    return result


def _offsets(size_N: np.ndarray) -> bytes:
    return np.concatenate([[0], np.cumsum(size_N)]).astype("<i8").tobytes()


def _batches(lines: list[str]) -> Iterator[list[str]]:
    start = count = 0
    for at, line in enumerate(lines):
        count += len(line)
        if count >= BATCH:
            yield lines[start : at + 1]
            start, count = at + 1, 0
    if start < len(lines):
        yield lines[start:]
