"""Putting a tokenizer together: a vocabulary, and a family's scheme around it."""

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece

from bertsmith.tokenizer.families import NAMED, Scheme

# a step of a normaliser by name; the others are in `_normalizer`
STEPS = {
    "quotes": [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')],
    "spaces": [normalizers.Replace(Regex(" {2,}"), " ")],
    "underlines": [normalizers.Replace(Regex(" {2,}"), "▁")],
    "blanks": [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")],
    "right": [normalizers.Strip(left=False, right=True)],
    "nfc": [normalizers.NFC()],
    "nfkd": [normalizers.NFKD(), normalizers.StripAccents()],
}


def assemble(
    scheme: Scheme, model: WordPiece | BPE | Unigram, charsmap: bytes = b"", more: Sequence[AddedToken] = ()
) -> Tokenizer:
    """The family's tokenizer around a vocabulary. Special tokens that it lacks get the ids behind it.

    Args:
        charsmap: the compiled normaliser of a SentencePiece model, where it has one.
        more: tokens beside the family's special ones that are taken out of the text before all else.
    """
    tokenizer = Tokenizer(model)
    if scheme.kind == "wordpiece":
        strip = None if scheme.accents is None else not scheme.accents
        tokenizer.normalizer = normalizers.BertNormalizer(
            handle_chinese_chars=scheme.chinese, strip_accents=strip, lowercase=scheme.lowercase
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif scheme.kind == "bpe":
        if scheme.steps:
            tokenizer.normalizer = _normalizer(scheme, charsmap)
        tokenizer.pre_tokenizer = byte_words(scheme)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        # None and a step that does nothing are the same, but only None is what the other library writes
        if scheme.steps and (scheme.steps != ("charsmap",) or charsmap):
            tokenizer.normalizer = _normalizer(scheme, charsmap)
        tokenizer.pre_tokenizer, tokenizer.decoder = pieces_of_words(scheme)
    add_special(tokenizer, scheme, more)
    tokenizer.post_processor = template(tokenizer, scheme)
    return tokenizer


def byte_words(scheme: Scheme) -> pre_tokenizers.PreTokenizer:
    """What cuts text into words and these into bytes."""
    if not scheme.words:
        return pre_tokenizers.ByteLevel(add_prefix_space=scheme.prefix)
    cut = pre_tokenizers.Split(Regex(scheme.words), behavior="isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=scheme.prefix, use_regex=False)])


def pieces_of_words(scheme: Scheme) -> tuple[pre_tokenizers.PreTokenizer, decoders.Decoder]:
    """What turns spaces into the mark that SentencePiece's pieces bear, and what turns it back."""
    where = "always" if scheme.prefix else "first" if "blanks" in scheme.steps else "never"  # "first": DeBERTa-v2
    mark = pre_tokenizers.Metaspace(prepend_scheme=where)
    parts: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.WhitespaceSplit()] if scheme.split else []
    if scheme.punctuation:
        parts.append(pre_tokenizers.Punctuation(behavior="isolated"))
    before = pre_tokenizers.Sequence([*parts, mark]) if parts else mark
    return before, decoders.Metaspace(prepend_scheme=where)


def add_special(tokenizer: Tokenizer, scheme: Scheme, more: Sequence[AddedToken] = ()) -> None:
    """Make the family's special tokens such, with ids of their own if the vocabulary has none for them."""
    names = [scheme.names[role] for role in NAMED if role in scheme.names]
    mask = scheme.names.get("mask") if scheme.greedy else None
    given = {token.content for token in more}
    special = [token for token in more if token.special or token.content in names]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([token for token in more if token not in special])
    wanted = [name for name in dict.fromkeys([*names, *scheme.last]) if name not in given]
    tokenizer.add_special_tokens([AddedToken(name, lstrip=name == mask, normalized=False) for name in wanted])


def template(tokenizer: Tokenizer, scheme: Scheme) -> processors.PostProcessor:
    """What puts the special tokens around one text and around two."""
    vocabulary = tokenizer.get_vocab()
    ids = {name: vocabulary[name] for name in scheme.names.values()}
    if scheme.trimmed:
        sep, cls = scheme.names["sep"], scheme.names["cls"]
        return processors.RobertaProcessing(
            (sep, ids[sep]), (cls, ids[cls]), True, scheme.prefix and scheme.kind == "bpe"
        )
    single, pair = (side.format(**scheme.names) for side in scheme.template)
    used = sorted({name for name in ids if name in {part.split(":")[0] for part in pair.split()}})
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=[(name, ids[name]) for name in used])


def _normalizer(scheme: Scheme, charsmap: bytes) -> normalizers.Normalizer:
    made: list[normalizers.Normalizer] = []
    for step in scheme.steps:
        if step == "lower":
            made += [normalizers.Lowercase()] if scheme.lowercase else []
        elif step == "accents":
            made += [] if scheme.accents else STEPS["nfkd"]
        elif step == "charsmap":
            made += [normalizers.Precompiled(charsmap)] if charsmap else []
        else:
            made += STEPS[step]
    return made[0] if len(made) == 1 else normalizers.Sequence(made)
