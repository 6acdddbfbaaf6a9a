"""Training a WordPiece vocabulary, as BERT's."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as Decoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

from bertsmith.corpus.read import documents
from bertsmith.corpus.skips import OnSkip
from bertsmith.files import write_atomic
from bertsmith.tokenizer.words import count_words, keep_common

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
ALPHABET = 1000  # characters that get a token; a word with a rarer one is not learnt from
REPEATS = 10_000  # times a word stands in one stretch of text


def bert_pipeline(model: WordPiece, lowercase: bool, cls: int, sep: int) -> Tokenizer:
    """A tokenizer with BERT's normaliser, pre-tokeniser, decoder and `[CLS] A [SEP] B [SEP]` around a vocabulary."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)  # strips accents just if it lower-cases
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = Decoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return tokenizer


def train_wordpiece(
    paths: str | Path | Sequence[str | Path],
    size: int,
    out: str | Path | None = None,
    lowercase: bool = True,
    most: int = 200_000_000,
    on_skip: OnSkip | None = None,
) -> Tokenizer:
    """Learn a vocabulary from text; the same text gives the same vocabulary, to the byte.

    Args:
        paths: files, folders, globs or "-" (see `corpus.read.documents`).
        size: how many tokens, the five special ones included.
        out: where `tokenizer.json` and `vocab.txt` go (a folder, made if need be); None to keep it in memory.
        lowercase: fold case and strip accents, as BERT's uncased models.
        most: stop after so many characters; the memory is that of the distinct words in them.
        on_skip: told of what could not be read.

    Raises:
        ValueError: `size` leaves no room beside the special tokens and the characters, or there is no text.
    """
    count = keep_common(count_words(documents(paths, on_skip), lowercase, most), ALPHABET)
    if not count:
        raise ValueError(f"no text to learn a vocabulary from in {paths}")
    vocabulary = _learn(count, size)
    tokenizer = bert_pipeline(
        WordPiece(vocabulary, unk_token="[UNK]"), lowercase, *map(SPECIAL.index, ("[CLS]", "[SEP]"))
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "vocab.txt", "".join(f"{token}\n" for token in vocabulary))
        write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    return tokenizer


def _learn(count: Counter[str], size: int) -> dict[str, int]:
    """Token -> id, in the order of ids.

    The library numbers the inner characters ("##a") in the order of a hash map that differs between runs, and breaks
    ties between merges by these numbers. So they are given to it beforehand, sorted, beside the special tokens.
    """
    inner = sorted({char for word in count for char in word[1:]})
    first = [*SPECIAL, *(f"##{char}" for char in inner)]
    if size < (least := len(first) + len({char for word in count for char in word})):
        raise ValueError(
            f"a vocabulary of {size} is too small: the special tokens and the characters are {least}; ask for more"
        )
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    trainer = WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(_repeated(count), trainer)
    learnt = tokenizer.get_vocab()
    return {token: learnt[token] for token in sorted(learnt, key=lambda token: learnt[token])}


def _repeated(count: Counter[str]) -> Iterator[str]:
    """Each word as often as it was counted, a bounded stretch of text at a time."""
    for word in sorted(count):
        for start in range(0, count[word], REPEATS):
            yield f"{word} " * min(REPEATS, count[word] - start)
