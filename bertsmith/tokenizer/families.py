"""What the tokenizer of each family is: its kind, its special tokens and how they stand around a text or a pair.

A `Scheme` is all that is needed beside a vocabulary, so a vocab.txt, a vocab.json with its merges.txt and a SentencePiece
model become the tokenizer that the family's own tokenizer.json holds. A tokenizer.json is taken as it is: nothing here
changes what the file says.

The templates are those of `transformers` 5. Three of them are not those of the papers or of version 4, and so are worth
knowing: DeBERTa puts two [SEP] between the texts of a pair and gives all tokens type 0; RoBERTa's <mask> does not take
the space before it (in the tokenizer.json files of version 4 it does); BigBird and DeBERTa-v2 leave out the
normaliser of their SentencePiece model.

ModernBERT and EuroBERT have no tokenizer class; theirs is always a tokenizer.json, and the scheme is for training only.
RoFormer's class finds the Chinese words of its vocabulary with the dictionary of the package rjieba, which no tokenizer.json
can hold: see `bertsmith.jieba`. Where the vocabulary has no such words the tokenizer is BERT's, and letters with marks are
not cut off from the word as they are there.

The reference has faults that are not copied: FNet's class makes no template of a .model, RemBERT's class loses its own
there, and ALBERT's, RemBERT's and T5's take the unknown piece to have a fixed number whatever the model says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

ROLES = ("pad", "unk", "cls", "sep", "mask")
NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # the order in which those that a vocabulary lacks get ids

# Llama 3's way to cut text into words, before bytes are merged
LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BERT_PAIR = ("{cls} $A {sep}", "{cls} $A {sep} $B:1 {sep}:1")
ROBERTA_PAIR = ("{cls} $A {sep}", "{cls} $A {sep} {sep} $B {sep}")


@dataclass(frozen=True)
class Scheme:
    """The tokenizer of a family, without its vocabulary.

    Attributes:
        kind: "wordpiece", "bpe" (of bytes) or "unigram".
        names: role -> token: "pad", "unk", "cls", "sep", "mask", "bos", "eos"; those that the family has.
        first: tokens that training gives the ids from 0 on.
        template: around one text, and around two; `{cls}` is the token of that role, ":1" a type.
        last: special tokens that training puts behind the vocabulary.
        trimmed: offsets leave out the space that a token begins with (RoBERTa).
        greedy: the mask takes the space before it.
        lowercase: fold case.
        accents: True keeps them, False strips them; None (WordPiece): stripped just if case is folded.
        chinese: a space around each Chinese character (WordPiece).
        steps: of the normaliser, by name (see `pipeline.STEPS`).
        split: at white space before all else (Unigram).
        prefix: a space before the first word.
        punctuation: punctuation marks stand alone (DeBERTa-v2).
        words: the expression that cuts text into words (BPE); "" for GPT-2's.
        dictionary: Chinese words of the vocabulary are found with a dictionary (RoFormer).
        spm: how many of a SentencePiece model's first pieces `before` stands for (Unigram).
        before: tokens in front of a SentencePiece model's pieces; then `last` stands behind them.
    """

    kind: str
    names: Mapping[str, str]
    first: tuple[str, ...]
    template: tuple[str, str] = BERT_PAIR
    last: tuple[str, ...] = ()
    trimmed: bool = False
    greedy: bool = False
    lowercase: bool = False
    accents: bool | None = None
    chinese: bool = True
    steps: tuple[str, ...] = ()
    split: bool = True
    prefix: bool = True
    punctuation: bool = False
    words: str = ""
    dictionary: bool = False
    spm: int = 0
    before: tuple[str, ...] = ()

    def of_kind(self, kind: str, lowercase: bool | None = None) -> "Scheme":
        """The same tokens and template around a vocabulary of another kind; `lowercase`: None for the family's own way.

        Raises ValueError if there is no such kind, or it needs an unknown token and the family has none.
        """
        if kind not in ("wordpiece", "bpe", "unigram"):
            raise ValueError(f"no vocabulary of kind {kind!r}; there are: wordpiece, bpe, unigram")
        if kind != "bpe" and "unk" not in self.names:
            raise ValueError(f"{kind} needs an unknown token and this family has none; ask for bpe")
        fold = self.lowercase if lowercase is None else lowercase
        accents = self.accents if kind == "wordpiece" or self.accents is not None else not fold
        if lowercase is not None and self.accents is not None:
            accents = not fold
        if kind == self.kind:
            return replace(self, lowercase=fold, accents=accents)
        steps = {"wordpiece": (), "bpe": ("nfc", "lower"), "unigram": ("accents", "lower")}[kind]
        return replace(
            self, kind=kind, lowercase=fold, accents=accents, steps=steps, split=True, prefix=kind == "unigram"
        )

    def told(self, config: Mapping[str, Any]) -> "Scheme":
        """The same with what a tokenizer_config.json says about case, accents, spaces and names."""
        keys = {
            "do_lower_case": "lowercase",
            "tokenize_chinese_chars": "chinese",
            "add_prefix_space": "prefix",
            "split_by_punct": "punctuation",
        }
        change: dict[str, Any] = {ours: config[key] for key, ours in keys.items() if isinstance(config.get(key), bool)}
        if isinstance(config.get("strip_accents"), bool):
            change["accents"] = not config["strip_accents"]
        if isinstance(config.get("keep_accents"), bool):
            change["accents"] = config["keep_accents"]
        given = {role: said for role in NAMED if (said := content(config.get(f"{role}_token")))}
        mask = config.get("mask_token")
        if isinstance(mask, dict):
            change["greedy"] = bool(mask.get("lstrip"))
        return replace(self, names={**self.names, **given}, **change)


def content(token: Any) -> str:
    """The text of a token as it stands in a JSON file: plain, or a table with its flags; "" if there is none."""
    return (token.get("content") or "") if isinstance(token, dict) else token or ""


SQUARE = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ENDS = {"bos": "[CLS]", "eos": "[SEP]"}
ANGLES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}

BERT = Scheme("wordpiece", SQUARE, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), lowercase=True)
MPNET = Scheme(
    "wordpiece", ANGLES | {"unk": "[UNK]"}, ("<s>", "<pad>", "</s>", "[UNK]"), ROBERTA_PAIR, ("<mask>",),
    trimmed=True, greedy=True, lowercase=True,
)  # fmt: skip
FUNNEL = Scheme(
    "wordpiece", ANGLES | {"cls": "<cls>", "sep": "<sep>"}, ("<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"),
    ("{cls}:2 $A {sep}", "{cls}:2 $A {sep} $B:1 {sep}:1"), lowercase=True,
)  # fmt: skip
ROBERTA = Scheme(
    "bpe", ANGLES, ("<s>", "<pad>", "</s>", "<unk>"), ROBERTA_PAIR, ("<mask>",),
    trimmed=True, prefix=False,
)  # fmt: skip
DEBERTA = Scheme(
    "bpe", SQUARE | ENDS, ("[CLS]", "[PAD]", "[SEP]", "[UNK]"), ROBERTA_PAIR, ("[MASK]",),
    prefix=False,
)  # fmt: skip
MODERNBERT = Scheme(
    "bpe", SQUARE, (), ("{cls} $A {sep}", "{cls} $A {sep} $B {sep}"),
    ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"), greedy=True, steps=("nfc",), prefix=False,
)  # fmt: skip
_EURO = {"pad": "<|pad|>", "cls": "<|begin_of_text|>", "sep": "<|end_of_text|>", "mask": "<|mask|>"}
EUROBERT = Scheme(
    "bpe", _EURO, (), ("{cls} $A {sep}", "{cls} $A {sep} $B {sep}"),
    ("<|begin_of_text|>", "<|end_of_text|>", "<|mask|>", "<|pad|>"), prefix=False, words=LLAMA_WORDS,
)  # fmt: skip
ALBERT = Scheme(
    "unigram", SQUARE | ENDS | {"pad": "<pad>", "unk": "<unk>"},
    ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    lowercase=True, accents=False, steps=("quotes", "accents", "lower", "charsmap"),
)  # fmt: skip
XLM_ROBERTA = Scheme(
    "unigram", ANGLES, ("<s>", "<pad>", "</s>", "<unk>"), ROBERTA_PAIR, ("<mask>",),
    steps=("charsmap",), spm=3, before=("<s>", "<pad>", "</s>", "<unk>"),
)  # fmt: skip
_NOT_USED = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED")
CAMEMBERT = replace(
    XLM_ROBERTA, first=(*_NOT_USED, "<s>", "</s>"), greedy=True, spm=1, before=_NOT_USED
)  # fmt: skip
DEBERTA_V2 = Scheme(
    "unigram", SQUARE | ENDS, ("[PAD]", "[CLS]", "[SEP]", "[UNK]"), last=("[MASK]",),
    steps=("lower", "blanks", "nfc", "right"), split=False,
)  # fmt: skip
XLNET = Scheme(
    "unigram", ANGLES | {"cls": "<cls>", "sep": "<sep>"},
    ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"),
    ("$A {sep} {cls}:2", "$A {sep} $B:1 {sep}:1 {cls}:2"), greedy=True, steps=("quotes", "nfkd", "lower", "charsmap"),
)  # fmt: skip
BIG_BIRD = Scheme(
    "unigram", ANGLES | {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    ("<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"), greedy=True, steps=("underlines",), split=False,
)  # fmt: skip
REMBERT = Scheme(
    "unigram", SQUARE | ENDS | {"pad": "<pad>", "unk": "<unk>"},
    ("<pad>", "[CLS]", "<unk>", "[SEP]", "[MASK]"),
    accents=True, steps=("quotes", "spaces", "accents", "lower", "charsmap"), split=False,
)  # fmt: skip
T5_EXTRA = tuple(f"<extra_id_{i}>" for i in range(99, -1, -1))
T5 = Scheme(
    "unigram", {"pad": "<pad>", "unk": "<unk>", "sep": "</s>", "eos": "</s>"}, ("<pad>", "</s>", "<unk>"),
    ("$A {sep}", "$A {sep} $B {sep}"), T5_EXTRA, steps=("charsmap",),
)  # fmt: skip

LIKE_BERT = (
    "bert", "distilbert", "megatron-bert", "electra", "convbert", "squeezebert", "mobilebert", "layoutlm", "ernie",
    "nomic_bert",
)  # fmt: skip
FAMILIES: dict[str, Scheme] = {
    **dict.fromkeys(LIKE_BERT, BERT),
    "roformer": replace(BERT, dictionary=True),
    "mpnet": MPNET,
    "funnel": FUNNEL,
    **dict.fromkeys(("roberta", "longformer"), ROBERTA),
    "deberta": DEBERTA,
    "modernbert": MODERNBERT,
    "eurobert": EUROBERT,
    **dict.fromkeys(("albert", "fnet", "nystromformer"), ALBERT),
    "xlm-roberta": XLM_ROBERTA,
    "camembert": CAMEMBERT,
    "deberta-v2": DEBERTA_V2,
    "xlnet": XLNET,
    "big_bird": BIG_BIRD,
    "rembert": REMBERT,
    "t5": T5,
}
# names of classes that say which family a tokenizer_config.json means; those left out say nothing
CLASSES = {
    f"{name}Tokenizer": family
    for name, family in {
        "Bert": "bert", "DistilBert": "distilbert", "Electra": "electra", "ConvBert": "convbert", "LayoutLM": "layoutlm",
        "SqueezeBert": "squeezebert", "MobileBert": "mobilebert", "RoFormer": "roformer", "MPNet": "mpnet",
        "Funnel": "funnel", "Roberta": "roberta", "Longformer": "longformer", "Deberta": "deberta", "Albert": "albert",
        "FNet": "fnet", "XLMRoberta": "xlm-roberta", "Camembert": "camembert", "DebertaV2": "deberta-v2", "XLNet": "xlnet",
        "BigBird": "big_bird", "RemBert": "rembert", "T5": "t5",
    }.items()
}  # fmt: skip
# model types that use another family's tokenizer
TYPES = {name: name for name in FAMILIES} | {
    "xlm-roberta-xl": "xlm-roberta", "xmod": "xlm-roberta", "data2vec-text": "roberta", "roberta-prelayernorm": "roberta",
    "ibert": "roberta", "mra": "roberta", "nezha": "bert", "yoso": "albert", "mt5": "t5", "umt5": "t5",
    "modernbert-decoder": "modernbert", "qdqbert": "bert", "visual_bert": "bert",
}  # fmt: skip


def find_scheme(family: str) -> Scheme:
    """The scheme of a family, "roberta" or "xlm-roberta". Raises ValueError, listing those there are."""
    name = TYPES.get(family) or TYPES.get(family.replace("_", "-")) or TYPES.get(family.replace("-", "_"))
    if name is None:
        raise ValueError(f"no tokenizer of a family {family!r}; there are: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]
