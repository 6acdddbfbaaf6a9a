"""Training a WordPiece vocabulary, as BERT's."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as Decoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

from bertsmith.corpus.read import documents
from bertsmith.corpus.skips import OnSkip
from bertsmith.files import write_atomic

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4


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
    """Learn a vocabulary from text; the same text gives the same vocabulary.

    Args:
        paths: files, folders, globs or "-" (see `corpus.read.documents`).
        size: how many tokens, the five special ones included.
        out: where `tokenizer.json` and `vocab.txt` go (a folder, made if need be); None to keep it in memory.
        lowercase: fold case and strip accents, as BERT's uncased models.
        most: stop after so many characters; what counts for a vocabulary comes early, and the memory is that of the
            distinct words of them.
        on_skip: told of what could not be read.

    Raises:
        ValueError: `size` leaves no room beside the special tokens, or there is no text.
    """
    if size <= len(SPECIAL):
        raise ValueError(f"a vocabulary of {size} holds nothing but the special tokens {', '.join(SPECIAL)}; ask for more")
    tokenizer = bert_pipeline(WordPiece(unk_token="[UNK]"), lowercase, SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]"))
    trainer = WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(_text(paths, most, on_skip), trainer)
    if tokenizer.get_vocab_size() <= len(SPECIAL):
        raise ValueError(f"no text to learn a vocabulary from in {paths}")
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        write_atomic(folder / "vocab.txt", "".join(f"{token}\n" for token, _ in vocabulary))
        write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    return tokenizer


def _text(paths: str | Path | Sequence[str | Path], most: int, on_skip: OnSkip | None) -> Iterator[list[str]]:
    seen = 0
    for document in documents(paths, on_skip):
        yield document
        seen += sum(map(len, document))
        if seen >= most:
            return
