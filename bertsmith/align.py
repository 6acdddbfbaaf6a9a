"""Words and the tokens of an encoding: which token begins which word, and what characters tokens stand for.

Words are what the data say, or `find_words`. A token belongs to the word in which it begins, white space before it left out:
so it makes no difference whether a vocabulary's offsets hold the space that a token bears ("Ġthe"). The token that begins a
word stands for it: it bears its target, and its answer is the word's. So characters go in and come out:

    codes = encode_words(tokenizer, texts, words)           # every word has a token of its own
    found = align(text, [code], words)
    tags = to_tags(spans, found.words, "bio")               # bertsmith.tags; snap(spans, found.words) first where need be
    target = found.spread([names.index(tag) for tag in tags])[0]
    back = to_spans([names[k] for k in found.gather([target])], found.words, "bio")      # == spans

Pieces of several words are the trouble: byte-level BPE may join "..." or the second byte of one emoji with the next, Unigram
"dog's" or two Chinese words. `encode_words` cuts the text where a word would be left without a token of its own; a piece that
so begins may bear the mark of a space if the tokenizer gives every text one. Nothing else changes.
"""

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from tokenizers import Encoding, Tokenizer

from bertsmith.coding import cutter
from bertsmith.labelled.spans import Span

NOTHING = -100  # the target of a token that is not asked
JOINER = "\u200d"  # makes one emoji of several
# scripts without spaces, in which every letter is taken as a word: Han, kana, bopomofo, Thai, Lao, Burmese, Khmer
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3040, 0x312F), (0x31A0, 0x31BF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)  # fmt: skip

T = TypeVar("T")


def find_words(text: str) -> list[Span]:
    """The words of a text, by a plain rule for any script: runs of letters and digits, and every other sign alone.

    White space ends a word. Punctuation marks and symbols are words of their own, and so is every letter of the scripts that
    are written without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer). Combining marks, and characters that only
    steer or format, belong to what stands before them; an emoji of several characters is one word.
    """
    words: list[Span] = []
    begin, kind = -1, ""
    for i, char in enumerate(text):
        now = _kind(char)
        if begin >= 0 and now != "space" and _goes_on(kind, now, text, begin, i):
            continue
        if begin >= 0:
            words.append(Span(begin, i))
        begin, kind = (-1, "") if now == "space" else (i, "letter" if now == "mark" else now)
    return [*words, Span(begin, len(text))] if begin >= 0 else words


@dataclass(frozen=True)
class Aligned:
    """Where the words of one text stand in its rows (one, or overlapping windows of a long text).

    Attributes:
        words: those that a token begins. Left out are words that were cut off with the end of the text, and those of which
            the tokenizer keeps nothing (control characters, lone marks): what is said of the words around one holds for it.
        of: for each word that was given, its number among `words`, -1 for none. Words that share a place share a number.
        word: of each row, for each token: the number of the word in which it begins, -1 for none.
        begins: the same, but only for the token that begins a word; -1 for all others.
        best: of each word, (row, token) where it begins with most context on both sides.
    """

    words: list[Span]
    of: list[int]
    word: list[list[int]]
    begins: list[list[int]]
    best: list[tuple[int, int]]

    def spread(self, values: Sequence[T], nothing: T | int = NOTHING) -> list[list[T | int]]:
        """Of each row, a value a token: that of the word at the token that begins it, `nothing` at all others."""
        return [[values[w] if w >= 0 else nothing for w in row] for row in self.begins]

    def gather(self, rows: Sequence[Sequence[T]]) -> list[T]:
        """The inverse: of what each row says for each token, what is said of each word."""
        return [rows[row][token] for row, token in self.best]


def align(text: str, codes: Sequence[Encoding], words: Sequence[Span], sequence: int = 0) -> Aligned:
    """Words of a text and the tokens of its rows.

    Args:
        codes: its encoding, or its windows in order.
        words: in order; they may share a place but not overlap otherwise.
        sequence: 1 if the text is the second of a pair.

    Raises ValueError, naming them, if two words overlap.
    """
    places = sorted({(word.start, word.end) for word in words})
    for (a, b), (c, d) in zip(places, places[1:], strict=False):
        if c < b:
            raise ValueError(f"words {a}-{b} and {c}-{d} overlap; a token can belong to one of them only")
    starts = [start for start, _ in places]
    within: list[list[int]] = []  # of each row, for each token: the number of its place, and
    begin: list[list[int]] = []  # its first character
    earliest: dict[int, int] = {}
    for code in codes:
        found = token_places(text, code, sequence)
        row = [bisect_right(starts, start) - 1 if start < end else -1 for start, end in found]
        row = [p if p >= 0 and found[t][0] < places[p][1] else -1 for t, p in enumerate(row)]
        for t, p in enumerate(row):
            if p >= 0:
                earliest[p] = min(found[t][0], earliest.get(p, found[t][0]))
        within.append(row)
        begin.append([start for start, _ in found])
    new = {p: number for number, p in enumerate(sorted(earliest))}
    begins: list[list[int]] = []
    best: dict[int, tuple[int, int, int]] = {}
    for r, (row, at) in enumerate(zip(within, begin, strict=True)):
        own = [t for t, start in enumerate(at) if start >= 0]
        done: set[int] = set()
        mine: list[int] = []
        for t, p in enumerate(row):
            first = p >= 0 and p not in done and at[t] == earliest[p]
            done |= {p} if first else set()
            mine.append(new[p] if first else -1)
            context = min(t - own[0], own[-1] - t) if first else -1
            if first and (p not in best or context > best[p][0]):
                best[p] = context, r, t
        begins.append(mine)
    number = {place: p for p, place in enumerate(places)}
    return Aligned(
        [Span(*places[p]) for p in new],
        [new.get(number[(word.start, word.end)], -1) for word in words],
        [[new.get(p, -1) for p in row] for row in within],
        begins,
        [best[p][1:] for p in new],
    )


def token_places(text: str, code: Encoding, sequence: int = 0) -> list[tuple[int, int]]:
    """The characters [start, end) of each token, without white space at the edges; (-1, -1) for special tokens, those of the
    other text of a pair, and white space alone."""
    found = []
    for (start, end), number in zip(code.offsets, code.sequence_ids, strict=True):
        inner = text[start:end]
        left = len(inner) - len(inner.lstrip())
        if number != sequence or left == len(inner):
            found.append((-1, -1))
        else:
            found.append((start + left, end - (len(inner) - len(inner.rstrip()))))
    return found


def cover(text: str, code: Encoding, span: Span, sequence: int = 0) -> tuple[int, int] | None:
    """(first token, last token) of those that hold characters of a span; None unless all of it is in this row."""
    places = token_places(text, code, sequence)
    touching = [t for t, (start, end) in enumerate(places) if start < span.end and span.start < end]
    if not touching:
        return None
    begins = min(places[t][0] for t in touching) <= span.start
    ends = max(places[t][1] for t in touching) >= span.end
    return (touching[0], touching[-1]) if begins and ends else None


def characters(text: str, code: Encoding, first: int, last: int, sequence: int = 0) -> Span | None:
    """The characters from one token to another, both included, without white space at the edges; None if there are none."""
    places = [place for place in token_places(text, code, sequence)[first : last + 1] if place[0] >= 0]
    if not places:
        return None
    return Span(min(start for start, _ in places), max(end for _, end in places))


def encode_words(
    tokenizer: Tokenizer, texts: Sequence[str], words: Sequence[Sequence[Span]], add_special_tokens: bool = True
) -> list[Encoding]:
    """Encodings of texts in which every word has a token of its own, as far as the tokenizer keeps anything of it.

    Those of texts where this is so anyway are what the tokenizer gives. Truncation and windows (`overflowing`) are as it is
    set; offsets count the characters of the text throughout.
    """
    coded = tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    whole = _untruncated(tokenizer)
    first = coded if whole is tokenizer else whole.encode_batch(list(texts), add_special_tokens=False)
    lost = [_lost(text, code, own) for text, code, own in zip(texts, first, words, strict=True)]
    todo = at_first = {i: len(found) for i, found in enumerate(lost) if found}
    cuts = {i: {0, len(texts[i])} for i in todo}
    while todo:
        # where a lost word begins; where it is lost even so, also where it ends
        new = {i: {word.end if word.start in cuts[i] else word.start for word in lost[i]} - cuts[i] for i in todo}
        todo = {i: len(found) for i, found in new.items() if found}
        for i in todo:
            cuts[i] |= new[i]
        pieces = {i: _pieces(texts[i], cuts[i]) for i in todo}
        again = whole.encode_batch(list(pieces.values()), is_pretokenized=True, add_special_tokens=False)
        for (i, parts), code in zip(pieces.items(), again, strict=True):
            lost[i] = _lost(texts[i], _global(code, parts), words[i])
    pieces = {i: _pieces(texts[i], cuts[i]) for i in cuts if len(lost[i]) < at_first[i]}
    again = tokenizer.encode_batch(list(pieces.values()), is_pretokenized=True, add_special_tokens=add_special_tokens)
    for (i, parts), code in zip(pieces.items(), again, strict=True):
        coded[i] = _global(code, parts)
    return coded


def _lost(text: str, code: Encoding, words: Sequence[Span]) -> list[Span]:
    """The words that no token begins."""
    return [word for word, number in zip(words, align(text, [code], words).of, strict=True) if number < 0]


def _pieces(text: str, cuts: set[int]) -> list[str]:
    """The text cut at these places; white space before a cut goes with what follows it."""
    at = {0, len(text)}
    for cut in cuts:
        while cut > 0 and text[cut - 1].isspace():
            cut -= 1
        at.add(cut)
    order = sorted(at)
    return [text[a:b] for a, b in zip(order, order[1:], strict=False)] or [text]


def _global(code: Encoding, pieces: Sequence[str]) -> Encoding:
    """An encoding of pieces with offsets that count the characters of the whole text."""
    if len(pieces) == 1:
        return code
    begin = [0]
    for piece in pieces:
        begin.append(begin[-1] + len(piece))
    state = json.loads(code.__getstate__())

    def move(one: dict[str, Any]) -> None:
        # "words" are the numbers of the pieces
        one["offsets"] = [
            [a, b] if w is None else [a + begin[w], b + begin[w]]
            for (a, b), w in zip(one["offsets"], one["words"], strict=True)
        ]
        for more in one["overflowing"]:
            move(more)

    move(state)
    made = Encoding()
    made.__setstate__(json.dumps(state).encode())
    return made


def _untruncated(tokenizer: Tokenizer) -> Tokenizer:
    if tokenizer.truncation is None and tokenizer.padding is None:
        return tokenizer
    return cutter(tokenizer, 0)


@lru_cache(1 << 16)
def _kind(char: str) -> str:
    """space, mark (goes with what stands before it), letter, or alone."""
    if char.isspace():
        return "space"
    code, category = ord(char), unicodedata.category(char)
    if category[0] == "M" or category in ("Cf", "Cc") or 0x1F3FB <= code <= 0x1F3FF:  # the last are skin tones
        return "mark"
    if category[0] in "PS" or any(a <= code <= b for a, b in UNSPACED):
        return "alone"
    return "letter"


def _goes_on(kind: str, now: str, text: str, begin: int, i: int) -> bool:
    """Whether character i belongs to the word of that kind that began at `begin`."""
    if now == "mark" or (now == kind == "letter"):
        return True
    flag = i - begin == 1 and all(0x1F1E6 <= ord(c) <= 0x1F1FF for c in text[begin : i + 1])
    return kind == now == "alone" and (flag or text[i - 1] == JOINER)
