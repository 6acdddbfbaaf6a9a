"""Opening a tokenizer that somebody made: a tokenizer.json, a vocab.txt, a vocab.json with merges.txt, or a
SentencePiece model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, WordPiece

from bertsmith.jieba import chinese_words, cut_words, marked
from bertsmith.tokenizer.families import (
    BERT,
    CLASSES,
    DEBERTA,
    FUNNEL,
    MPNET,
    ROBERTA,
    ROLES,
    TYPES,
    Scheme,
    content,
    find_scheme,
)
from bertsmith.tokenizer.pipeline import assemble
from bertsmith.tokenizer.roles import special_ids
from bertsmith.tokenizer.sentencepiece import CONTROL, NORMAL, USER_DEFINED, merges, read_pieces, unigram

__all__ = ["load_tokenizer", "special_ids"]

MODELS = ("spiece.model", "sentencepiece.bpe.model", "spm.model", "sentencepiece.model", "tokenizer.model")
NAMES = ("tokenizer.json", "vocab.txt", "vocab.json", *MODELS)  # in a folder the first of these is taken
FORMS = "a tokenizer.json, a vocab.txt, a vocab.json with merges.txt, or a SentencePiece .model"


def load_tokenizer(path: str | Path, family: str = "") -> Tokenizer:
    """The tokenizer of a folder (its tokenizer.json, else what there is of `NAMES`) or of one of these files.

    A tokenizer.json is taken as it is, but that RoFormer's finds its Chinese words (see `bertsmith.jieba`). A bare
    vocabulary becomes the tokenizer of its family, which is `family` if given, else what a `tokenizer_config.json` or
    `config.json` beside it says, else for a vocab.txt and a vocab.json guessed from its special tokens. Case, accents
    and names of tokens are read from the tokenizer_config.json; a vocab.txt whose case nothing tells is taken to be lower
    case if no token begins with a capital ASCII letter.

    Args:
        family: "roberta", "xlm-roberta", ... (see `families.FAMILIES`); of a tokenizer.json it says no more than whether
            it finds Chinese words.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file that is none of these, a vocabulary without a special token, or a family that nothing tells;
            the message says which.
        ImportError: it finds Chinese words, and rjieba is absent; it says what to install.
    """
    given = Path(path)
    file = given
    if given.is_dir():
        found = [given / name for name in NAMES if (given / name).is_file()]
        if not found:
            inside = ", ".join(sorted(p.name for p in given.iterdir())[:20]) or "nothing"
            raise FileNotFoundError(f"{given} holds neither {' nor '.join(NAMES)}; it holds: {inside}")
        file = found[0]
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; a tokenizer is {FORMS}, or a folder with one")
    if file.name == "merges.txt":
        file = file.with_name("vocab.json")
    readers: dict[str, Callable[[Path, str], Tokenizer]] = {
        ".json": _from_merges if file.name == "vocab.json" else _from_json,
        ".txt": _from_words,
        ".model": _from_sentencepiece,
    }
    if file.suffix not in readers:
        raise ValueError(f"{file}: a tokenizer is {FORMS}, not a {file.suffix or 'file of no kind'}")
    tokenizer = readers[file.suffix](file, family)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _from_json(file: Path, family: str) -> Tokenizer:
    try:
        text = file.read_text(encoding="utf-8")
        if not isinstance(parsed := json.loads(text), dict) or "model" not in parsed:
            raise ValueError("it has no 'model'")
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ValueError(f"{file} is not a tokenizer.json of the tokenizers library: {error}") from error
    scheme = _said(file, family, _config(file, "tokenizer_config.json"))
    if marked(tokenizer) or (scheme is not None and _has_words(tokenizer, scheme)):
        cut_words(tokenizer)
    special_ids(tokenizer, ("pad", "sep"))
    return tokenizer


def _from_words(file: Path, family: str) -> Tokenizer:
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
    config = _config(file, "tokenizer_config.json")
    scheme = (_said(file, family, config) or _guess(vocabulary, (BERT, MPNET, FUNNEL)) or BERT).told(config)
    _check(file, scheme, "wordpiece")
    if missing := [scheme.names[role] for role in ROLES if scheme.names[role] not in vocabulary]:
        name = "BERT vocab.txt" if scheme.names == BERT.names else "vocab.txt of this family"
        raise ValueError(f"{file} is not a {name}: {', '.join(missing)} not in it (one token a line is expected)")
    if not isinstance(config.get("do_lower_case"), bool):
        scheme = replace(scheme, lowercase=not any("A" <= token[0] <= "Z" for token in tokens if token))
    tokenizer = _with_added(assemble(scheme, WordPiece(vocabulary, unk_token=scheme.names["unk"])), config)
    if _has_words(tokenizer, scheme):
        cut_words(tokenizer)
    return tokenizer


def _has_words(tokenizer: Tokenizer, scheme: Scheme) -> bool:
    """Whether its family finds Chinese words with a dictionary, and its vocabulary has any."""
    return scheme.dictionary and bool(chinese_words(tokenizer.get_vocab(with_added_tokens=False)))


def _from_merges(file: Path, family: str) -> Tokenizer:
    second = file.with_name("merges.txt")
    if not second.is_file():
        raise FileNotFoundError(f"{second}: no such file; {file.name} holds the tokens, merges.txt how they are made")
    try:
        vocabulary, pairs = BPE.read_file(str(file), str(second))
        model = BPE(vocabulary, pairs, continuing_subword_prefix="", end_of_word_suffix="")
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ValueError(f"{file} with {second.name} is not a BPE vocabulary: {error}") from error
    config = _config(file, "tokenizer_config.json")
    scheme = _said(file, family, config) or _guess(vocabulary, (ROBERTA, DEBERTA))
    if scheme is None:
        raise _untold(file)
    scheme = scheme.told(config)
    _check(file, scheme, "bpe")
    return _with_added(assemble(scheme, model), config)


def _from_sentencepiece(file: Path, family: str) -> Tokenizer:
    found = read_pieces(file)
    config = _config(file, "tokenizer_config.json")
    scheme = _said(file, family, config)
    if scheme is None:
        raise _untold(file)
    scheme = scheme.told(config)
    _check(file, scheme, "unigram")
    kinds = {text: kind for text, _, kind in found.pieces}
    pieces = [(text, -100.0 if text == "<unk>NOTUSED" else 0.0) for text in scheme.before]
    pieces += [(text, score) for text, score, _ in found.pieces[scheme.spm :]]
    unk = scheme.before.index(scheme.names["unk"]) if scheme.before else found.unk
    pieces += [(text, 0.0) for text in scheme.last if text not in kinds]
    taken = [
        AddedToken(text, normalized=False, special=kind == CONTROL)
        for text, _, kind in found.pieces
        if kind in (CONTROL, USER_DEFINED)
    ]
    if found.kind == 1:
        model = unigram(pieces, unk)
    else:
        model = merges(pieces, unk, found.fall_back, {text for text, kind in kinds.items() if kind == NORMAL})
    return _with_added(assemble(scheme, model, found.charsmap, taken), config)


def _said(file: Path, family: str, config: dict[str, Any]) -> Scheme | None:
    """The scheme that was asked for, or that the files beside the vocabulary name."""
    if family:
        return find_scheme(family)
    named = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    kind = CLASSES.get(named) or str(_config(file, "config.json").get("model_type") or "")
    return find_scheme(kind) if kind in TYPES else None


def _guess(vocabulary: dict[str, int], schemes: tuple[Scheme, ...]) -> Scheme | None:
    """The first whose special tokens are all there."""
    return next((s for s in schemes if all(s.names[role] in vocabulary for role in ROLES)), None)


def _check(file: Path, scheme: Scheme, kind: str) -> None:
    if scheme.kind != kind:
        raise ValueError(f"{file} holds a {kind} vocabulary, but the family that was named has a {scheme.kind} one")


def _untold(file: Path) -> ValueError:
    return ValueError(
        f"{file}: nothing tells which family's tokenizer this is; say family='roberta' or whatever it is, or put the model's "
        "config.json or tokenizer_config.json beside it"
    )


def _config(file: Path, name: str) -> dict[str, Any]:
    beside = file.with_name(name)
    found = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{beside} holds no table of settings")
    return found


def _with_added(tokenizer: Tokenizer, config: dict[str, Any]) -> Tokenizer:
    """The tokens that a tokenizer_config.json adds, in the order of their ids; raises ValueError if one gets another id."""
    for number, said in sorted((int(k), v) for k, v in (config.get("added_tokens_decoder") or {}).items()):
        flags = {k: bool(said[k]) for k in ("single_word", "lstrip", "rstrip", "normalized", "special") if k in said}
        token = AddedToken(content(said), **flags)
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if (now := tokenizer.token_to_id(token.content)) != number:
            raise ValueError(
                f"tokenizer_config.json gives {token.content!r} the id {number}; in this vocabulary it is {now}"
            )
    return tokenizer
