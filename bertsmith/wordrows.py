"""What tasks about the words of a text share: spans as they may be written, and the windows of a text with its words.

for i, aligned, codes in word_windows(coder, texts, words, stride): ...
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding
from torch import Tensor

from bertsmith.align import Aligned, align, encode_words, find_words
from bertsmith.coding import Coder
from bertsmith.labelled.spans import Span


def spans_of(raw: Any) -> list[Span]:
    """Spans as they may be written: `Span`, (start, end, label) or an object with these names. ValueError for what is none."""
    found = []
    for one in raw or []:
        if isinstance(one, Span):
            found.append(one)
            continue
        try:
            start, end, label = (one["start"], one["end"], one.get("label", "")) if isinstance(one, dict) else one
            found.append(Span(int(start), int(end), str(label)))
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"a span is (start, end, label) or an object with these names; got {one!r:.80}") from error
    return found


def words_of(texts: Sequence[str], pairs: Sequence[Any] | None) -> list[list[Span]]:
    """The words of texts: what stands beside them, or what a plain rule finds (`align.find_words`)."""
    return [find_words(text) for text in texts] if pairs is None else [spans_of(x) for x in pairs]


def word_windows(
    coder: Coder, texts: Sequence[str], words: Sequence[Sequence[Span]], stride: int
) -> Iterator[tuple[int, Aligned, list[Encoding]]]:
    """(number of the text, its words among the tokens of its windows, these windows), text by text."""
    for i, code in enumerate(encode_words(coder.cutting(stride), texts, words)):
        codes = [code, *code.overflowing]
        yield i, align(texts[i], codes, words[i]), codes


def first_tokens(aligned: Aligned, row: int) -> Tensor:
    """1 at the tokens of a row that begin a word, 0 at the others: the mark "first" that heads and tasks ask for."""
    return torch.tensor([int(w >= 0) for w in aligned.begins[row]])


def word_bytes(text: str, aligned: Aligned, row: int, most: int) -> Tensor:
    """int16 [tokens, most], the mark "characters": of the word of each token of a row its bytes in UTF-8, each + 1, then 0.

    Of longer words the first and the last half of `most` are kept; a token of no word has 0 alone.
    """
    held = np.zeros((len(aligned.words) + 1, most), np.int16)  # the last is that of no word
    for k, word in enumerate(aligned.words):
        raw = text[word.start : word.end].encode()
        raw = raw if len(raw) <= most else raw[: most // 2] + raw[len(raw) - (most - most // 2) :]
        held[k, : len(raw)] = np.frombuffer(raw, np.uint8).astype(np.int16) + 1
    return torch.from_numpy(held[aligned.word[row]])
