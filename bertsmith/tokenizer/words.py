"""Counting the words of a text as BERT's normaliser and pre-tokeniser see them."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

from tokenizers.normalizers import BertNormalizer


class _Marks(dict[int, str]):
    """A table for `str.translate` that puts spaces around punctuation; filled as characters come up."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        alone = unicodedata.category(char).startswith("P") or (
            char.isascii() and char.isprintable() and not char.isalnum() and char != " "
        )
        self[code] = f" {char} " if alone else char
        return self[code]


def count_words(documents: Iterable[list[str]], lowercase: bool, most: int) -> Counter[str]:
    """How often each word and each punctuation mark occurs in the first `most` characters.

    Memory: that of the distinct words.
    """
    normalizer, marks, seen = BertNormalizer(lowercase=lowercase), _Marks(), 0
    count: Counter[str] = Counter()
    for document in documents:
        text = "\n".join(document)
        count.update(normalizer.normalize_str(text).translate(marks).split())
        seen += len(text)
        if seen >= most:
            break
    return count


def keep_common(count: Counter[str], most: int) -> Counter[str]:
    """The same without the words that hold a character beyond the `most` commonest ones (equal ones by code)."""
    chars: Counter[str] = Counter()
    for word, times in count.items():
        for char in word:
            chars[char] += times
    kept = set(sorted(chars, key=lambda char: (-chars[char], char))[:most])
    return Counter({word: times for word, times in count.items() if kept.issuperset(word)})
