"""A prepared corpus, memory-mapped: documents and their lines by number."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bertsmith.corpus.chunk import SUFFIXES, name_of

OPEN = 256  # shards mapped at once


def need(special: dict[str, int], *roles: str) -> None:
    """Raises ValueError if the tokenizer of a corpus has none of these special tokens: `need(shards.special, "cls")`."""
    if lacking := [role for role in roles if role not in special]:
        raise ValueError(
            f"the tokenizer of this corpus has no {' and no '.join(lacking)} token, only {', '.join(special)}: "
            "prepare the text with another one (bertsmith tokenizer train --family bert)"
        )


class Shard(NamedTuple):
    """One shard, mapped read-only: `token_N`; where lines start in it, `line_L`; where documents start in the lines,
    `document_D`. The last two end with one entry more, the end."""

    token_N: np.ndarray
    line_L: np.ndarray
    document_D: np.ndarray


class Shards:
    """A folder written by `corpus.prepare.prepare`.

    Memory: some numbers per shard (4 Mi characters of text each), and the maps of at most 256 shards, which the
    system may drop at any time.

    Attributes:
        documents, lines_count, tokens: how many there are.
        special: "pad", "unk", "cls", "sep", "mask" -> id.
        vocabulary: how many ids the tokenizer has.
        tokens_of_S, documents_of_S: int64 counts per shard; first_document_S: the number of the first document of each.

    Raises:
        FileNotFoundError: no such folder, or prepare has not finished in it.
        ValueError: a folder of another format, or with files missing or cut short.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        manifest = _manifest(self.folder)
        self.manifest = manifest
        self.documents: int = manifest["documents"]
        self.lines_count: int = manifest["lines"]
        self.tokens: int = manifest["tokens"]
        self.special: dict[str, int] = manifest["special"]
        self.vocabulary: int = manifest["vocabulary"]
        self.dtype = np.dtype(manifest["dtype"])
        self.tokens_of_S = np.array([shard["tokens"] for shard in manifest["shards"]], np.int64)
        self.documents_of_S = np.array([shard["documents"] for shard in manifest["shards"]], np.int64)
        self.first_document_S = np.concatenate([[0], np.cumsum(self.documents_of_S)])
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._check()

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.folder,)

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer.json that made the tokens."""
        return self.folder / "tokenizer.json"

    @property
    def lengths(self) -> np.ndarray:
        """int64 tokens per document: read anew at each access, 8 bytes a document."""
        parts = [shard.line_L[shard.document_D] for shard in map(self.shard, range(len(self.tokens_of_S)))]
        return np.concatenate([np.diff(part) for part in parts])

    def document(self, number: int) -> np.ndarray:
        """The token ids of a document, without special tokens (a view of the map)."""
        shard, inside = self.place(number)
        first, last = shard.line_L[shard.document_D[inside : inside + 2]]
        return shard.token_N[first:last]

    def lines(self, number: int) -> list[np.ndarray]:
        """The token ids of each paragraph of a document."""
        shard, inside = self.place(number)
        first, last = shard.document_D[inside : inside + 2]
        at = shard.line_L[first : last + 1]
        return [shard.token_N[a:b] for a, b in zip(at[:-1], at[1:], strict=True)]

    def shard(self, number: int) -> Shard:
        """The maps of a shard; opened when asked for."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        path = self.folder / name_of(number)
        kinds = (self.dtype, np.dtype("<i8"), np.dtype("<i8"))
        maps = [_map(path.with_suffix(end), kind) for end, kind in zip(SUFFIXES, kinds, strict=True)]
        self._open[number] = Shard(*maps)
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return self._open[number]

    def place(self, number: int) -> tuple[Shard, int]:
        """The shard of a document, and the number it has there."""
        if not 0 <= number < self.documents:
            raise IndexError(f"no document {number}: {self.folder} has {self.documents}, numbered from 0")
        at = int(np.searchsorted(self.first_document_S, number, "right")) - 1
        return self.shard(at), number - int(self.first_document_S[at])

    def _check(self) -> None:
        for number, shard in enumerate(self.manifest["shards"]):
            sizes = (shard["tokens"] * self.dtype.itemsize, (shard["lines"] + 1) * 8, (shard["documents"] + 1) * 8)
            for suffix, size in zip(SUFFIXES, sizes, strict=True):
                file = self.folder / (name_of(number) + suffix)
                there = file.stat().st_size if file.exists() else None
                if there != size:
                    raise ValueError(f"{file} should have {size} bytes, it has {there}; prepare this corpus again")


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    if not file.is_file():
        begun = (folder / "parts").is_dir()
        raise FileNotFoundError(
            f"{folder}: prepare has not finished here; repeat its call to go on"
            if begun
            else f"{folder} is no prepared corpus (it has no manifest.json); make one with prepare"
        )
    manifest = json.loads(file.read_text(encoding="utf-8"))
    if manifest.get("format") != 1:
        raise ValueError(f"{file} has format {manifest.get('format')}; this version reads format 1: prepare again")
    return manifest
