"""Training a vocabulary: WordPiece, byte-level BPE or Unigram, with a family's special tokens and template."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

from bertsmith.corpus.read import documents
from bertsmith.corpus.skips import OnSkip
from bertsmith.files import write_atomic
from bertsmith.tokenizer.families import BERT, Scheme, find_scheme
from bertsmith.tokenizer.pipeline import assemble
from bertsmith.tokenizer.words import count_words, keep_common

SPECIAL = BERT.first  # ids 0 to 4
ALPHABET = 1000  # characters that get a token (WordPiece); a word with a rarer one is not learnt from
REPEATS = 10_000  # times a word stands in one stretch of text

Paths = str | Path | Sequence[str | Path]


def bert_pipeline(model: WordPiece, lowercase: bool, cls: int, sep: int) -> Tokenizer:
    """A tokenizer with BERT's normaliser, pre-tokeniser, decoder and `[CLS] A [SEP] B [SEP]` around a vocabulary."""
    tokenizer = assemble(BERT.of_kind("wordpiece", lowercase), model)
    if (found := [tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")]) != [cls, sep]:
        raise ValueError(f"[CLS] and [SEP] have the ids {found} in this vocabulary, not {[cls, sep]}")
    return tokenizer


def train_tokenizer(
    paths: Paths,
    size: int,
    out: str | Path | None = None,
    kind: str = "",
    family: str = "bert",
    lowercase: bool | None = None,
    most: int = 200_000_000,
    on_skip: OnSkip | None = None,
) -> Tokenizer:
    """Learn a vocabulary from text; the same text gives the same vocabulary.

    Args:
        paths: files, folders, globs or "-" (see `corpus.read.documents`).
        size: how many tokens, the special ones included.
        out: where `tokenizer.json` and, for WordPiece, `vocab.txt`, for BPE `vocab.json` and `merges.txt` go (a folder,
            made if need be); None to keep it in memory.
        kind: "wordpiece", "bpe" (of bytes), "unigram"; "" for the family's own.
        family: whose special tokens, template and, if the kind is its own, treatment of text ("roberta", "albert", ...).
        lowercase: fold case and strip accents; None as the family does.
        most: stop after so many characters; the memory is that of the distinct words in them.
        on_skip: told of what could not be read.

    Raises:
        ValueError: no such kind or family; `size` leaves no room beside the special tokens and the characters; no text.
    """
    scheme = find_scheme(family)
    scheme = scheme.of_kind(kind or scheme.kind, lowercase)
    text = documents(paths, on_skip)
    learn = {"wordpiece": _learn_wordpiece, "bpe": _learn_bpe, "unigram": _learn_unigram}[scheme.kind]
    model = learn(text, most, size, scheme)
    if model is None:
        raise ValueError(f"no text to learn a vocabulary from in {paths}")
    tokenizer = assemble(scheme, model)
    tokenizer.add_special_tokens([name for name in scheme.first if name not in scheme.names.values()])
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _files(tokenizer, scheme).items():
            write_atomic(folder / name, content)
    return tokenizer


def train_wordpiece(
    paths: Paths,
    size: int,
    out: str | Path | None = None,
    lowercase: bool = True,
    most: int = 200_000_000,
    on_skip: OnSkip | None = None,
) -> Tokenizer:
    """`train_tokenizer` for BERT's WordPiece: the same text gives the same vocabulary, to the byte."""
    return train_tokenizer(paths, size, out, "wordpiece", "bert", lowercase, most, on_skip)


def _files(tokenizer: Tokenizer, scheme: Scheme) -> dict[str, str]:
    """The content of the files by name. BPE's two are what the other library reads where there is no tokenizer.json."""
    files = {"tokenizer.json": tokenizer.to_str(pretty=True)}
    model = json.loads(files["tokenizer.json"])["model"]
    if scheme.kind == "wordpiece":
        files["vocab.txt"] = "".join(f"{token}\n" for token in _in_order(model["vocab"]))
    elif scheme.kind == "bpe":
        files["vocab.json"] = json.dumps(_in_order(model["vocab"]), ensure_ascii=False)
        files["merges.txt"] = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"])
    return files


def _in_order(vocabulary: dict[str, int]) -> dict[str, int]:
    return {token: vocabulary[token] for token in sorted(vocabulary, key=lambda token: vocabulary[token])}


def _behind(vocabulary: dict[str, int], last: Sequence[str]) -> dict[str, int]:
    """The same with the special tokens that come last."""
    return vocabulary | {token: len(vocabulary) + i for i, token in enumerate(last)}


def _lines(text: Iterable[list[str]], most: int) -> Iterator[str]:
    """Paragraphs, up to the end of the document that goes over `most` characters."""
    seen = 0
    for document in text:
        yield from document
        seen += sum(map(len, document))
        if seen >= most:
            return


def _too_small(size: int, what: str, least: int) -> ValueError:
    return ValueError(
        f"a vocabulary of {size} is too small: the special tokens and the {what} are {least}; ask for more"
    )


def _learn_wordpiece(text: Iterable[list[str]], most: int, size: int, scheme: Scheme) -> WordPiece | None:
    """Tokens in the order of ids: special ones, inner characters, the others.

    The library numbers the inner characters ("##a") in the order of a hash map that differs between runs, and breaks
    ties between merges by these numbers. So they are given to it beforehand, sorted, beside the special tokens.
    """
    count = keep_common(count_words(text, scheme.lowercase, most), ALPHABET)
    if not count:
        return None
    inner = sorted({char for word in count for char in word[1:]})
    first = [*scheme.first, *(f"##{char}" for char in inner)]
    if size < (least := len(first) + len(scheme.last) + len({char for word in count for char in word})):
        raise _too_small(size, "characters", least)
    tokenizer = Tokenizer(WordPiece(unk_token=scheme.names["unk"]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    trainer = WordPieceTrainer(vocab_size=size - len(scheme.last), special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(_repeated(count), trainer)
    vocabulary = _behind(_in_order(tokenizer.get_vocab()), scheme.last)
    return WordPiece(vocabulary, unk_token=scheme.names["unk"])


def _learn_bpe(text: Iterable[list[str]], most: int, size: int, scheme: Scheme) -> BPE | None:
    """Merges of bytes, Radford et al. 2019. Every byte has a token, so nothing is unknown."""
    alphabet = ByteLevel.alphabet()
    if size < (least := len(scheme.first) + len(scheme.last) + len(alphabet)):
        raise _too_small(size, "256 bytes", least)
    tokenizer = assemble(scheme, BPE())
    trainer = BpeTrainer(
        vocab_size=size - len(scheme.last),
        special_tokens=list(scheme.first),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(text, most), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if not model["merges"]:
        return None
    merges = [tuple(pair) for pair in model["merges"]]
    return BPE(_behind(model["vocab"], scheme.last), merges, continuing_subword_prefix="", end_of_word_suffix="")


def _learn_unigram(text: Iterable[list[str]], most: int, size: int, scheme: Scheme) -> Unigram | None:
    """Pieces with the logarithms of their probabilities, Kudo 2018, arXiv:1804.10959, likeliest first.

    The library adds up in the order of a hash map that differs between runs, and lines up in it the characters that its
    pruning lost, each 0.0001 above the last. So probabilities are rounded, and these characters get the least one.
    """
    unk = scheme.names["unk"]
    tokenizer = assemble(scheme, Unigram([(unk, 0.0)], unk_id=0))
    trainer = UnigramTrainer(
        vocab_size=size - len(scheme.last), special_tokens=list(scheme.first), unk_token=unk, show_progress=False
    )
    try:
        tokenizer.train_from_iterator(_lines(text, most), trainer)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ValueError(f"a vocabulary of {size} is too small: {error}; ask for more") from error
    special = {*scheme.first, *scheme.last}
    learnt: dict[str, float] = {p: s for p, s in json.loads(tokenizer.to_str())["model"]["vocab"] if p not in special}
    if not learnt:
        return None
    if size < (total := len(special) + len(learnt)):
        raise _too_small(size, "characters", total)
    least, step = min(learnt.values()), 0.0001
    lost = [p for p, s in learnt.items() if len(p) == 1 and abs((s - least) / step - round((s - least) / step)) < 1e-6]
    lost = [p for p in lost if learnt[p] - least < step * len(lost)]
    score = {p: round(s, 6) for p, s in learnt.items()} | dict.fromkeys(lost, round(least, 6))
    pieces = sorted(score.items(), key=lambda piece: (-piece[1], piece[0]))
    whole = [*((p, 0.0) for p in scheme.first), *pieces, *((p, 0.0) for p in scheme.last)]
    return Unigram(whole, unk_id=next(i for i, (p, _) in enumerate(whole) if p == unk), byte_fallback=False)


def _repeated(count: Counter[str]) -> Iterator[str]:
    """Each word as often as it was counted, a bounded stretch of text at a time."""
    for word in sorted(count):
        for start in range(0, count[word], REPEATS):
            yield f"{word} " * min(REPEATS, count[word] - start)
