"""Text to token ids, a word at a time: a word that was seen before is looked up.

In a BERT tokenizer nothing that a space or an ASCII punctuation mark separates depends on its neighbours, so the tokens
of a paragraph are those of its words, joined; and natural text repeats its words. The ids are exactly those of the
tokenizers library, which encodes every word once.
"""

import json
import re

import numpy as np
from tokenizers import Tokenizer

from bertsmith.jieba import from_text, to_text

WORDS = 1 << 19  # entries, and
CHARACTERS = 1 << 22  # characters of keys, that the memory of words may hold between two calls
ATOM = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")


class Encoder:
    """Encodes paragraphs without special tokens; text that spells "[SEP]" stays text.

    Args:
        tokenizer: any; if it is not WordPiece in BERT's pipeline, each paragraph is encoded as a whole.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = unspelt(tokenizer)
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.dtype = np.dtype("<u2" if tokenizer.get_vocab_size() <= 1 << 16 else "<u4")
        self.by_word = splits_at_spaces(tokenizer)
        self.known: dict[str, bytes] = {}
        self.size = 0

    def __call__(self, paragraphs: list[str]) -> list[bytes]:
        """The ids of each paragraph as little-endian bytes of `self.dtype`.

        Memory: that of the words of all paragraphs at once; between calls about 100 MB at most.
        """
        if not self.by_word:
            return self._encode(paragraphs)
        if len(self.known) > WORDS or self.size > CHARACTERS:
            self.known, self.size = {}, 0
        split = [paragraph.split(" ") for paragraph in paragraphs]
        self._learn(set().union(*split))
        known = self.known
        return [b"".join([known[word] for word in words]) for words in split]

    def _learn(self, words: set[str]) -> None:
        """Puts words into `known`. ASCII ones are split into runs of letters and digits and single marks first."""
        new = words.difference(self.known)
        plain = [word for word in new if word.isascii() and word.isprintable()]
        atoms = [ATOM.findall(word) for word in plain]
        self._learn_atoms(sorted(set().union(*atoms).difference(self.known)))
        known = self.known
        known.update(
            (word, b"".join([known[atom] for atom in parts])) for word, parts in zip(plain, atoms, strict=True)
        )
        other = sorted(new.difference(plain))
        known.update(zip(other, self._encode(other), strict=True))
        self.size += sum(map(len, new))

    def _learn_atoms(self, atoms: list[str]) -> None:
        """Encodes many at once, as one text: each is one word of it, and the library numbers the words."""
        for start in range(0, len(atoms), 512):
            group = atoms[start : start + 512]
            encoding = self.tokenizer.encode(" ".join(group), add_special_tokens=False)
            id_N, word_N = np.array(encoding.ids, self.dtype), np.array(encoding.word_ids)
            cut = np.flatnonzero(np.diff(word_N)) + 1
            if len(cut) + 1 != len(group):
                raise RuntimeError(f"the tokenizer found {len(cut) + 1} words in {len(group)}: {group[:5]}...")
            self.known.update(zip(group, (part.tobytes() for part in np.split(id_N, cut)), strict=True))
            self.size += sum(map(len, group))

    def _encode(self, texts: list[str]) -> list[bytes]:
        out: list[bytes] = []
        for start in range(0, len(texts), 4096):
            batch = self.tokenizer.encode_batch_fast(texts[start : start + 4096], add_special_tokens=False)
            out += [np.array(encoding.ids, self.dtype).tobytes() for encoding in batch]
        return out


def unspelt(tokenizer: Tokenizer) -> Tokenizer:
    """A copy in whose vocabulary no text is spelt as a special token.

    A Unigram model holds them as pieces of probability 1: it would take "</s>" in a page of HTML for the end of a text.
    """
    spec = json.loads(to_text(tokenizer))
    if spec["model"].get("type") != "Unigram":
        return from_text(to_text(tokenizer))
    special = {token["content"] for token in spec.get("added_tokens", []) if token["special"]}
    spec["added_tokens"], spec["post_processor"] = [t for t in spec["added_tokens"] if not t["special"]], None
    vocab = spec["model"]["vocab"]
    spec["model"]["vocab"] = [[f"\ufdd0{i}" if p in special else p, s] for i, (p, s) in enumerate(vocab)]
    return Tokenizer.from_str(json.dumps(spec))


def splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether tokenising "a b" is tokenising "a", then "b": so it is for WordPiece in BERT's pipeline."""
    spec = json.loads(to_text(tokenizer))
    normalizer = spec.get("normalizer") or {"type": "BertNormalizer"}
    pre_tokenizer = spec.get("pre_tokenizer") or {}
    return (
        spec["model"].get("type") == "WordPiece"
        and pre_tokenizer.get("type") == "BertPreTokenizer"
        and normalizer.get("type") == "BertNormalizer"
        and all(token["special"] for token in spec.get("added_tokens", []))
    )
