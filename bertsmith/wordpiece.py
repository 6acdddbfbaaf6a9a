"""Text to ids by the compiled kernel, for vocabularies of WordPiece in BERT's pipeline: the ids of the tokenizers library, in a
tenth of its time.

What a character becomes, and whether it ends a word, is asked of that library, once for each character below U+3000. A text
with another one, or one that spells a special token, is left to the library.
"""

import functools
import json
from collections.abc import Sequence
from unicodedata import combining

import numpy as np
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertsmith import native
from bertsmith.jieba import to_text
from bertsmith.native.words import ALONE, ELSEWHERE, INSIDE, LONGEST, SPACE, Characters, Words

CHARACTERS = 0x3000


class Compiled:
    """Ids of single texts, special tokens included."""

    def __init__(self, words: Words, spelt: list[str]):
        self.words, self.specials, self.spelt = words, words.specials, spelt

    def __call__(self, texts: Sequence[str], most: int, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids int32 [tokens], starts int32 [texts + 1], whole int32 [texts]: how many tokens each would have uncut).

        A text that is for the library has no ids, and -1 in `whole`. Texts are cut after `most` tokens, at least one more than
        the special ones.
        """
        every = "\n".join(texts)
        if any(special in every for special in self.spelt) or not (every.isascii() or _has_bytes(every)):
            odd = [any(special in text for special in self.spelt) or not _has_bytes(text) for text in texts]
            texts = [UNKNOWN if is_odd else text for is_odd, text in zip(odd, texts, strict=True)]
        return self.words(texts, most, threads)


UNKNOWN = chr(CHARACTERS)


def _has_bytes(text: str) -> bool:
    """Whether it can be written in UTF-8; half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def compiled(tokenizer: Tokenizer) -> Compiled | None:
    """Of a tokenizer as it is now, or None where the kernel is missing or the tokenizer is of another kind, cuts or pads."""
    if native.library() is None or tokenizer.truncation or tokenizer.padding:
        return None
    spec = json.loads(to_text(tokenizer))
    model, added = spec["model"], spec.get("added_tokens", [])
    if (
        model.get("type") != "WordPiece"
        or model["continuing_subword_prefix"] != "##"
        or model["max_input_chars_per_word"] > LONGEST
        or (spec.get("normalizer") or {}).get("type") != "BertNormalizer"
        or (spec.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer"
        or any(token["normalized"] or not token["content"] for token in added)
        or sorted(model["vocab"].values()) != list(range(len(model["vocab"])))
        or model["unk_token"] not in model["vocab"]
    ):
        return None
    around = tokenizer.encode("a")  # a word whatever the vocabulary: a piece, or the unknown one
    inside = [i for i, special in enumerate(around.special_tokens_mask) if not special]
    alone = tokenizer.encode("a", add_special_tokens=False)
    if any(around.type_ids) or len(inside) != len(alone) or not inside:
        return None
    first, last = inside[0], inside[-1] + 1
    if around.ids[first:last] != alone.ids:
        return None
    words = Words(
        characters(json.dumps(spec["normalizer"], sort_keys=True)),
        sorted(model["vocab"], key=model["vocab"].__getitem__),
        around.ids[:first],
        around.ids[last:],
        model["vocab"][model["unk_token"]],
        model["max_input_chars_per_word"],
    )
    return Compiled(words, [token["content"] for token in added])


@functools.lru_cache(maxsize=8)
def characters(normalizer: str) -> Characters:
    """What BERT's pipeline does to each character between two letters; `normalizer`: as tokenizer.json has it."""
    settings = {name: said for name, said in json.loads(normalizer).items() if name != "type"}
    made = BertNormalizer(**settings)
    found = [_character(made, BertPreTokenizer(), chr(number)) for number in range(CHARACTERS)]
    return Characters(np.array([kind for kind, _ in found], np.uint8), [becomes for _, becomes in found])


def _character(normalizer: BertNormalizer, split: BertPreTokenizer, one: str) -> tuple[int, str]:
    """(what it is, what it becomes)."""
    match [piece for piece, _ in split.pre_tokenize_str(normalizer.normalize_str(f"a{one}a"))]:
        case ["a", "a"]:
            return SPACE, ""
        case ["a", becomes, "a"]:
            kind = ALONE
        case [whole] if whole[0] == whole[-1] == "a":
            kind, becomes = INSIDE, whole[1:-1]
        case _:
            return ELSEWHERE, ""
    # what may change places with its neighbours, or become more than there is room for, is the library's
    known = not any(map(combining, becomes)) and len(becomes) <= len(one.encode())
    return (kind, becomes) if known else (ELSEWHERE, "")
