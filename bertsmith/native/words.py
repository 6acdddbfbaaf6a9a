"""The C functions that turn text into ids, and how they are called: see words.cpp."""

import ctypes
from array import array
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int32, c_void_p
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from bertsmith import native

ELSEWHERE, SPACE, ALONE, INSIDE = range(4)
LONGEST = 256


class _Table(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("kind", "at", "turned", "pieces", "starts", "before", "after")),
        *((name, c_int32) for name in ("characters", "many", "many_before", "many_after", "unknown", "longest")),
    ]


@dataclass(frozen=True)
class Characters:
    """Of each character from number 0 on: what it is (ELSEWHERE: not known here) and what it becomes."""

    kind: np.ndarray  # uint8 [characters]
    becomes: list[str]


class Words:
    """A vocabulary of WordPiece in the library.

    Args:
        pieces: by id; before, after: ids around a text; unknown: the id of a word that cannot be spelt.
        longest: characters of a word, LONGEST at the most; of a longer one it is not tried.
    """

    def __init__(
        self, characters: Characters, pieces: list[str], before: list[int], after: list[int], unknown: int, longest: int
    ):
        self.lib, self.pointer, self.specials = native.library(), c_void_p(), len(before) + len(after)
        assert self.lib is not None
        assert longest <= LONGEST
        self.lib.bs_words_new.argtypes = [POINTER(_Table), POINTER(c_void_p)]
        self.lib.bs_words_run.argtypes = [*[c_void_p] * 3, *[ctypes.c_int] * 3, *[c_void_p] * 3]
        self.lib.bs_words_delete.argtypes, self.lib.bs_words_delete.restype = [c_void_p], None
        (turned, at), (spelt, starts) = _joined(characters.becomes, "i"), _joined(pieces, "i")
        kind, around = np.ascontiguousarray(characters.kind, np.uint8), [np.array(x, np.int32) for x in (before, after)]
        given = kind, at, turned, spelt, starts, *around
        where = [x.ctypes.data if isinstance(x, np.ndarray) else np.frombuffer(x, np.uint8).ctypes.data for x in given]
        table = _Table(*where, len(kind), len(pieces), len(before), len(after), unknown, longest)
        native.check(self.lib.bs_words_new(byref(table), byref(self.pointer)))

    def __call__(self, texts: Sequence[str], most: int, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids int32 [tokens], starts int32 [texts + 1], whole int32 [texts]) of texts cut after `most` tokens.

        whole: how many there would be uncut; -1 for a text with a character that is ELSEWHERE, which gets none. Special tokens
        count. Raises UnicodeEncodeError for half of a surrogate pair.
        """
        text, starts = _joined(texts, "q")
        many = len(texts)
        ids = 2 * many + 1  # after `whole` and `starts` in one piece of memory, which is asked for, and looked up, once
        made = np.empty(ids + len(text) + many * self.specials, np.int32)
        at = native.address(made) or 0
        given = self.pointer, text, starts.buffer_info()[0], many, most, threads
        assert self.lib is not None
        native.check(self.lib.bs_words_run(*given, at + 4 * ids, at + 4 * many, at))
        begins = made[many:ids]
        return made[ids : ids + begins[-1]], begins, made[:many]

    def __del__(self) -> None:
        if self.lib is not None and self.pointer:
            self.lib.bs_words_delete(self.pointer)


def _joined(texts: Sequence[str], kind: str) -> tuple[bytes, "array[int]"]:
    """(UTF-8 of all of them, where each begins and the last ends)."""
    every = [text.encode() for text in texts]
    return b"".join(every), array(kind, accumulate(map(len, every), initial=0))
