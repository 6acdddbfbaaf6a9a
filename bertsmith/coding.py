"""Examples to rows of tokens, rows to batches, and logits back to rows.

B rows, T places in the longest of them, C documents in the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from bertsmith.jieba import from_text, to_text
from bertsmith.layout import Layout
from bertsmith.wordpiece import Compiled, compiled

OnLong = Literal["truncate", "error"]
LONG = ("head", "tail", "head+tail", "pieces")


_COPIES: WeakKeyDictionary[Tokenizer, dict[tuple[int, int, str, str], Tokenizer]] = WeakKeyDictionary()
_COMPILED: WeakKeyDictionary[Tokenizer, dict[tuple[int | bool, ...], Compiled | None]] = WeakKeyDictionary()


def cutter(
    tokenizer: Tokenizer, most: int, stride: int = 0, strategy: str = "longest_first", direction: str = "right"
) -> Tokenizer:
    """A copy of a tokenizer that cuts after `most` tokens; one that neither cuts nor pads if that is 0.

    It is made once, and neither may be changed after: a copy of 30,000 words takes longer than a short text does in all.
    """
    copies, key = _COPIES.setdefault(tokenizer, {}), (most, stride, strategy, direction)
    if key not in copies:
        one = from_text(to_text(tokenizer))
        if most:
            one.enable_truncation(most, stride=stride, strategy=strategy, direction=direction)
        else:
            one.no_truncation()
            one.no_padding()
        copies[key] = one
    return copies[key]


@dataclass(frozen=True)
class Row:
    """One row of tokens that an example becomes: whole, or a window of it, or several documents (choices) side by side.

    Attributes:
        example: the number of the example.
        codes: the documents of the row as the tokenizer made them: ids, types, character offsets, which text.
        target: what is asked, by field (see `Task.fields`); empty where no labels are known.
        marks: facts about each of its tokens, [tokens, ...], for the layout's `extra`.
        note: what the task wants back with the logits.
    """

    example: int
    codes: list[Encoding]
    target: dict[str, Tensor] = field(default_factory=dict)
    marks: dict[str, Tensor] = field(default_factory=dict)
    note: Any = None

    def __len__(self) -> int:
        return sum(map(len, self.codes))


@dataclass(frozen=True)
class Flat:
    """Texts as their ids, one after the other: what an encoder reads, and nothing else that a tokenizer knows of them.

    Attributes:
        ids: int32 [tokens]. types: int32 [tokens], or None for all 0.
        starts: int32 [texts + 1], where each text begins, and the end.
    """

    ids: np.ndarray
    types: np.ndarray | None
    starts: np.ndarray

    @classmethod
    def of(cls, codes: Sequence[Encoding]) -> "Flat":
        starts = np.cumsum([0, *map(len, codes)]).astype(np.int32)
        ids, types = (
            np.fromiter((x for code in codes for x in of(code)), np.int32, starts[-1])
            for of in (lambda code: code.ids, lambda code: code.type_ids)
        )
        return cls(ids, types, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batches(self, pad: int, places: int) -> Iterator[tuple[list[int], Tensor, Layout]]:
        """As `batches`, of texts."""
        lengths = np.diff(self.starts).tolist()
        for now in groups(lengths, places):
            B, T = len(now), max(1, *(lengths[i] for i in now))
            token_BT = torch.full((B, T), pad)
            real_BT, type_BT = (torch.zeros(B, T, dtype=torch.long) for _ in range(2))
            for b, i in enumerate(now):
                here = slice(self.starts[i], self.starts[i + 1])
                token_BT[b, : lengths[i]], real_BT[b, : lengths[i]] = torch.from_numpy(self.ids[here]), 1
                if self.types is not None:
                    type_BT[b, : lengths[i]] = torch.from_numpy(self.types[here])
            yield now, token_BT, Layout.padded(real_BT, type_BT, whole=all(lengths[i] == T for i in now))


class Coder:
    """A tokenizer with the longest row that is wanted, and what is done with longer texts.

    How to Fine-Tune BERT for Text Classification, Sun et al. 2019, arXiv:1905.05583, section 5.3.1, compares the ways.

    Args:
        long: of a text that is too long the "head" is kept, the "tail", a quarter of the row from its head and the rest from
            its tail ("head+tail"), or all of it in "pieces", documents of one row (for `pool/hierarchical`).
        apart: the two texts of a pair are two documents of a row, each of them `max_length` long at the most (`Head.apart`).

    Attributes:
        cut: how many texts were cut so far. seen, lost: how many tokens there were, and how many of them were cut off.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        on_long: OnLong = "truncate",
        long: str = "head",
        apart: bool = False,
    ):
        if long not in LONG:
            raise ValueError(f"no way {long!r} to treat long texts; there are: {', '.join(LONG)}")
        self.tokenizer, self.max_length, self.on_long, self.long = tokenizer, max_length, on_long, long
        self.apart = apart
        self.cut = self.seen = self.lost = 0

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoding]:
        """One encoding a text (or pair), special tokens included; longer ones are cut at the end and counted.

        Raises ValueError if `on_long` is "error" and one is too long.
        """
        rows = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        coded = self.tokenizer.encode_batch(rows)
        long = self._count([*map(len, coded)])
        if long and pairs is not None and self.long != "head":
            raise ValueError(f"long={self.long!r} is for single texts; of pairs the heads are kept")
        if long:
            shorter = cutter(self.tokenizer, self.max_length, direction="left" if self.long == "tail" else "right")
            kept = [self._ends(texts[i]) if self.long == "head+tail" else rows[i] for i in long]
            for i, e in zip(long, shorter.encode_batch(kept), strict=True):
                coded[i] = e
        return coded

    def flat(self, texts: Sequence[str], threads: int = 1) -> Flat:
        """The ids of `encode`, one after the other; by the kernel, on so many threads, where it knows the vocabulary."""
        quick, most = self._compiled(), self.max_length
        if quick is None or self.long != "head" or most <= quick.specials:
            return Flat.of(self.encode(texts))
        ids, starts, whole = quick(texts, most, threads)
        lengths = whole.tolist()
        if min(lengths, default=0) >= 0:
            self._count(lengths)
            return Flat(ids, None, starts)
        other = [i for i, n in enumerate(lengths) if n < 0]
        odd = [texts[i] for i in other]
        whole[other] = [*map(len, self.tokenizer.encode_batch(odd))]
        self._count(whole.tolist())
        rest = dict(zip(other, cutter(self.tokenizer, most).encode_batch(odd), strict=True))
        parts = [rest[i].ids if i in rest else ids[starts[i] : starts[i + 1]] for i in range(len(texts))]
        return Flat(np.concatenate(parts).astype(np.int32), None, np.cumsum([0, *map(len, parts)]).astype(np.int32))

    def _compiled(self) -> Compiled | None:
        one = self.tokenizer
        made = _COMPILED.setdefault(one, {})
        # what may change of a tokenizer that is in use: tokens are added, it is told to cut or to pad
        state = one.get_vocab_size(), len(one.get_added_tokens_decoder()), bool(one.truncation), bool(one.padding)
        if state not in made:
            made[state] = compiled(one)
        return made[state]

    def _count(self, lengths: list[int]) -> list[int]:
        """The numbers of those that are too long, all being counted. ValueError if there shall be none."""
        long = (
            [i for i, n in enumerate(lengths) if n > self.max_length]
            if lengths and max(lengths) > self.max_length
            else []
        )
        self.seen += sum(lengths)
        self.cut += len(long)
        self.lost += sum(lengths[i] - self.max_length for i in long)
        if long and self.on_long == "error":
            raise ValueError(
                f"text {long[0]} has {lengths[long[0]]} tokens, more than {self.max_length}: cut it, or on_long='truncate'"
            )
        return long

    def one_window(self, text: int, windows: Sequence[Encoding], kept: int) -> Encoding:
        """The window that is read of a text, all being counted. ValueError if no text shall be cut."""
        sizes = [len(code) for code in windows]
        self.seen += sum(sizes)
        if len(windows) > 1:
            self.cut += 1
            self.lost += sum(sizes) - sizes[kept]
            if self.on_long == "error":
                raise ValueError(f"text {text} has more than {self.max_length} tokens: cut it, or on_long='truncate'")
        return windows[kept]

    def documents(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[list[Encoding]]:
        """The documents of each text's row: one, as many as it has pieces with `long="pieces"`, or the two of a pair.

        Raises ValueError where there are no second texts for a head that reads two.
        """
        if self.apart:
            if pairs is None:
                raise ValueError("the head compares two texts; say which the second ones are (pair=)")
            both = self.encode([text for two in zip(texts, pairs, strict=True) for text in two])
            return [both[i : i + 2] for i in range(0, len(both), 2)]
        if self.long != "pieces" or pairs is not None:
            return [[code] for code in self.encode(texts, pairs)]
        found = self.windows(texts, None, 0)
        self.seen += sum(len(code) for codes in found for code in codes)
        return found

    def _ends(self, text: str) -> str:
        """The head and the tail of a text, together as long as a row."""
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(False)
        head = room // 4
        return text[: offsets[head - 1][1]] + " " + text[offsets[len(offsets) - (room - head)][0] :]

    def windows(self, texts: Sequence[str], pairs: Sequence[str] | None, stride: int) -> list[list[Encoding]]:
        """The windows of each text, or of the second of a pair beside the whole first: none cut, neighbours sharing
        `stride` tokens (a quarter of a row at the most).

        Raises ValueError, naming the text, if a first text leaves no room beside it for more than `stride` tokens.
        """
        stride = min(stride, self.max_length // 4)
        if pairs is None:
            return [[e, *e.overflowing] for e in self.cutting(stride).encode_batch(list(texts))]
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(True) - stride
        for i, e in enumerate(self.tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if len(e) >= room:
                raise ValueError(
                    f"text {i} has {len(e)} tokens: beside it a row of {self.max_length} has no room for more than the "
                    f"{stride} tokens that windows share; ask for a larger max_length, or cut it"
                )
        both = list(zip(texts, pairs, strict=True))
        return [[e, *e.overflowing] for e in self.cutting(stride, "only_second").encode_batch(both)]

    def cutting(self, stride: int, which: str = "longest_first") -> Tokenizer:
        """A copy of the tokenizer that cuts into windows; the further ones are in `overflowing`."""
        most = self.max_length - self.tokenizer.num_special_tokens_to_add(which == "only_second")
        return cutter(self.tokenizer, self.max_length, min(stride, max(0, most - 1)), which)


def collate(rows: Sequence[Row], pad: int) -> tuple[Tensor, Layout]:
    """(token_BT, layout) of rows, padded to the longest."""
    B, T = len(rows), max(1, *(len(row) for row in rows))
    token_BT = torch.full((B, T), pad)
    segment_BT, position_BT, type_BT = (torch.zeros(B, T, dtype=torch.long) for _ in range(3))
    for b, row in enumerate(rows):
        at = 0
        for number, code in enumerate(row.codes, 1):
            end = at + len(code)
            token_BT[b, at:end], type_BT[b, at:end] = torch.tensor(code.ids), torch.tensor(code.type_ids)
            segment_BT[b, at:end], position_BT[b, at:end] = number, torch.arange(end - at)
            at = end
    if all(len(row.codes) == 1 for row in rows):
        layout = Layout.padded(segment_BT, type_BT, whole=all(len(row) == T for row in rows))
    else:
        layout = Layout.of(segment_BT, position_BT, type_BT)
    for name in rows[0].marks:
        marks = [row.marks[name] for row in rows]
        layout.extra[name] = torch.stack([F.pad(x, (0, 0) * (x.dim() - 1) + (0, T - len(x))) for x in marks])
    return token_BT, layout


def batches(rows: Sequence[Row], pad: int, places: int) -> Iterator[tuple[list[int], Tensor, Layout]]:
    """(numbers of the rows, token_BT, layout): rows of like lengths, at most `places` of them with padding."""
    for now in groups([*map(len, rows)], places):
        yield now, *collate([rows[i] for i in now], pad)


def groups(lengths: list[int], places: int) -> Iterator[list[int]]:
    """Numbers of rows of like lengths, the shortest first, at most `places` of tokens and padding."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    while order:
        take = 1
        while take < len(order) and (take + 1) * lengths[order[take]] <= places:
            take += 1
        now, order = order[:take], order[take:]
        yield now


def by_row(logits: Tensor, rows: Sequence[Row], each: str) -> list[Tensor]:
    """Logits of a batch to those of each row: [tokens of the row, K] where a head answers for `each` "token" (logits
    [B, T, ...]), [documents of the row, K] where for each "document" (logits [C, ...])."""
    if each == "token":
        return [logits[b, : len(row)] for b, row in enumerate(rows)]
    if each == "row":
        return list(logits.split(1))
    return list(logits.split([len(row.codes) for row in rows]))
