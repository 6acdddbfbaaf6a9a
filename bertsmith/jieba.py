"""RoFormer's Chinese words: a text is cut with the dictionary of jieba before WordPiece sees it.  Su et al. 2021,
arXiv:2104.09864; the cut is that of `RoFormerTokenizer` in `transformers`.

A word of the dictionary that the vocabulary has stays whole; of all others each Chinese character stands alone. This is
done in Python (package `rjieba`), and no tokenizer.json can hold it: in the file a mark stands in its place, which another
program reads as BERT's own way to cut. So a tokenizer is written and copied with `to_text` and `from_text` only.
"""

import importlib
import re
from collections.abc import Container, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from tokenizers import PreTokenizedString, Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer, Sequence, Split

MARK = Sequence([Split("[jieba]", "isolated"), BertPreTokenizer()])  # BERT cuts at both brackets anyway
# what BERT's normaliser takes for Chinese
HAN = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b920-\U0002ceaf"
    "\uf900-\ufaff\U0002f800-\U0002fa1f"
)
ONE = re.compile(rf"[{HAN}]|[^\s{HAN}]+")  # a Chinese character, or what stands between two of them
WORD = re.compile(rf"[{HAN}]{{2,}}")


def chinese_words(vocabulary: Iterable[str]) -> list[str]:
    """The tokens of two Chinese characters or more."""
    return [token for token in vocabulary if WORD.fullmatch(token)]


def cut_words(tokenizer: Tokenizer) -> None:
    """Let a WordPiece tokenizer find the words of its vocabulary.

    Raises ImportError, saying what to install, where rjieba is absent.
    """
    if find_spec("rjieba") is None:
        words = sorted(chinese_words(tokenizer.get_vocab(with_added_tokens=False)))
        raise ImportError(
            f"this vocabulary has {len(words)} Chinese words ({words[0]}, ...), which are found with the dictionary of "
            "jieba: pip install 'bertsmith[chinese]' (the package rjieba)"
        )
    if isinstance(tokenizer.normalizer, BertNormalizer):
        tokenizer.normalizer.handle_chinese_chars = False  # spaces around characters would leave no words
    tokenizer.pre_tokenizer = PreTokenizer.custom(_Words(tokenizer.get_vocab(with_added_tokens=False)))


def to_text(tokenizer: Tokenizer, pretty: bool = False) -> str:
    """What a tokenizer.json holds."""
    if type(tokenizer.pre_tokenizer) is not PreTokenizer:
        return tokenizer.to_str(pretty)
    made = Tokenizer(tokenizer.model)
    made.normalizer, made.pre_tokenizer = tokenizer.normalizer, MARK
    made.post_processor, made.decoder = tokenizer.post_processor, tokenizer.decoder
    for _, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    if tokenizer.truncation:
        made.enable_truncation(**tokenizer.truncation)
    if tokenizer.padding:
        made.enable_padding(**tokenizer.padding)
    return made.to_str(pretty)


def from_text(text: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json. ImportError where it cuts words and rjieba is absent."""
    tokenizer = Tokenizer.from_str(text)
    if marked(tokenizer):
        cut_words(tokenizer)
    return tokenizer


def marked(tokenizer: Tokenizer) -> bool:
    """Whether the mark stands where words are cut."""
    now: Any = tokenizer.pre_tokenizer
    return isinstance(now, Sequence) and now.__getstate__() == MARK.__getstate__()


class _Words:
    """What `tokenizers` asks to cut a text."""

    def __init__(self, vocabulary: Container[str]):
        self.vocabulary, self.jieba = vocabulary, importlib.import_module("rjieba")

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(lambda number, part: [part[start:end] for start, end in self.places(str(part))])

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where each word begins and ends."""
        for word, start, end in self.jieba.tokenize(text, hmm=False):
            if word in self.vocabulary:
                yield start, end
            else:
                yield from ((start + one.start(), start + one.end()) for one in ONE.finditer(word))
