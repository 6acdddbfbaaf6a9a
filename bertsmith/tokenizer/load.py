"""Opening a tokenizer that somebody made: a tokenizer.json, or BERT's vocab.txt."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from bertsmith.tokenizer.train import SPECIAL, bert_pipeline

NAMES = ("tokenizer.json", "vocab.txt")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a folder (its tokenizer.json, else its vocab.txt) or of one of these files.

    A vocab.txt says nothing about case: it is read from a `tokenizer_config.json` beside it ("do_lower_case"), else
    guessed: lower case if no token begins with a capital ASCII letter.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file that is neither, or a vocabulary without a special token; the message says which.
    """
    given = Path(path)
    file = given
    if given.is_dir():
        found = [given / name for name in NAMES if (given / name).is_file()]
        if not found:
            inside = ", ".join(sorted(p.name for p in given.iterdir())[:20]) or "nothing"
            raise FileNotFoundError(f"{given} holds neither tokenizer.json nor vocab.txt; it holds: {inside}")
        file = found[0]
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; a tokenizer is a tokenizer.json, a vocab.txt, or a folder with one"
        )
    if file.suffix == ".json":
        tokenizer = _from_json(file)
    elif file.suffix == ".txt":
        tokenizer = _from_vocabulary(file)
    else:
        raise ValueError(
            f"{file}: a tokenizer is a tokenizer.json or a vocab.txt, not a {file.suffix or 'file of no kind'}"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """{"pad", "unk", "cls", "sep", "mask"} -> id. Also knows the names RoBERTa's family uses.

    Raises:
        ValueError: one of them is not in the vocabulary.
    """
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    ids = {}
    for what, other in names.items():
        found = [i for name in (f"[{what.upper()}]", other) if (i := tokenizer.token_to_id(name)) is not None]
        if not found:
            raise ValueError(
                f"the tokenizer has no {what} token: neither [{what.upper()}] nor {other} is in its vocabulary"
            )
        ids[what] = found[0]
    return ids


def _from_json(file: Path) -> Tokenizer:
    try:
        content = file.read_text(encoding="utf-8")
        if not isinstance(json.loads(content), dict) or "model" not in json.loads(content):
            raise ValueError("it has no 'model'")
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ValueError(f"{file} is not a tokenizer.json of the tokenizers library: {error}") from error
    special_ids(tokenizer)
    return tokenizer


def _from_vocabulary(file: Path) -> Tokenizer:
    try:
        tokens = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a vocab.txt: it is not UTF-8 text ({error})") from error
    tokens = [token.removesuffix("\r") for token in tokens]
    if tokens[-1] == "":
        tokens.pop()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        twice = next(token for number, token in enumerate(tokens) if vocabulary[token] != number)
        raise ValueError(f"{file} is not a vocab.txt: {twice!r} stands in it twice")
    if missing := [token for token in SPECIAL if token not in vocabulary]:
        raise ValueError(
            f"{file} is not a BERT vocab.txt: {', '.join(missing)} not in it (one token a line is expected)"
        )
    model = WordPiece(vocabulary, unk_token="[UNK]")
    tokenizer = bert_pipeline(model, _lowercase(file, tokens), vocabulary["[CLS]"], vocabulary["[SEP]"])
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _lowercase(file: Path, tokens: list[str]) -> bool:
    config = file.with_name("tokenizer_config.json")
    if config.is_file():
        said = json.loads(config.read_text(encoding="utf-8")).get("do_lower_case")
        if isinstance(said, bool):
            return said
    return not any("A" <= token[0] <= "Z" for token in tokens if token and token not in SPECIAL)
