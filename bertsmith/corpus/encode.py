"""Text to token ids, a word at a time: a word that was seen before is looked up.

In a BERT tokenizer nothing that a space separates depends on its neighbours, so the tokens of a paragraph are those of
its words, joined; and natural text repeats its words. The ids are exactly those of the tokenizers library.
"""

import json

import numpy as np
from tokenizers import Tokenizer

WORDS = 1 << 18  # entries, and
CHARACTERS = 1 << 22  # characters of keys, that the memory of words may hold between two calls


class Encoder:
    """Encodes paragraphs without special tokens; text that spells "[SEP]" stays text.

    Args:
        tokenizer: any; if spaces do not separate words in it, each paragraph is encoded as a whole.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.dtype = np.dtype("<u2" if tokenizer.get_vocab_size() <= 1 << 16 else "<u4")
        self.by_word = splits_at_spaces(tokenizer)
        self.known: dict[str, bytes] = {}
        self.size = 0

    def __call__(self, paragraphs: list[str]) -> list[bytes]:
        """The ids of each paragraph as little-endian bytes of `self.dtype`.

        Memory: that of the words of all paragraphs at once; between calls about 60 MB at most.
        """
        if not self.by_word:
            return self._encode(paragraphs)
        split = [paragraph.split(" ") for paragraph in paragraphs]
        self._learn(set().union(*split))
        known = self.known
        out = [b"".join([known[word] for word in words]) for words in split]
        if len(known) > WORDS or self.size > CHARACTERS:
            self.known, self.size = {}, 0
        return out

    def _learn(self, words: set[str]) -> None:
        new = sorted(words.difference(self.known))
        self.known.update(zip(new, self._encode(new), strict=True))
        self.size += sum(map(len, new))

    def _encode(self, texts: list[str]) -> list[bytes]:
        out: list[bytes] = []
        for start in range(0, len(texts), 4096):
            batch = self.tokenizer.encode_batch_fast(texts[start : start + 4096], add_special_tokens=False)
            out += [np.array(encoding.ids, self.dtype).tobytes() for encoding in batch]
        return out


def splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether tokenising "a b" is tokenising "a", then "b": so it is for WordPiece in BERT's pipeline."""
    spec = json.loads(tokenizer.to_str())
    normalizer = spec.get("normalizer") or {"type": "BertNormalizer"}
    pre_tokenizer = spec.get("pre_tokenizer") or {}
    return (
        spec["model"].get("type") == "WordPiece"
        and pre_tokenizer.get("type") == "BertPreTokenizer"
        and normalizer.get("type") == "BertNormalizer"
        and not any(" " in token["content"] for token in spec.get("added_tokens", []))
    )
