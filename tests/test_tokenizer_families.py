"""Every family's tokenizer gives what `transformers` gives: ids, types, mask of special tokens, offsets."""

import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from transformers import PreTrainedTokenizerFast, convert_slow_tokenizer
from typer.testing import CliRunner

from bertsmith.cli import app
from bertsmith.corpus.encode import Encoder
from bertsmith.corpus.prepare import prepare
from bertsmith.head import head
from bertsmith.hf.bert import bert_encoder
from bertsmith.model import Bundle, Model, load
from bertsmith.norm import norm
from bertsmith.tokenizer.families import BERT, FAMILIES, FUNNEL, ROBERTA, ROLES, XLNET, find_scheme
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.pipeline import assemble
from bertsmith.tokenizer.roles import roles, shown, special_ids
from bertsmith.tokenizer.sentencepiece import read_pieces
from bertsmith.tokenizer.train import train_tokenizer, train_wordpiece

MODELS = Path(__file__).parent / "spm"
LEARNT = [
    "The quick brown fox jumps over the lazy dog's bed; the dogs don't mind, they've slept enough.",
    "Le chat a déjà mangé: naïve façade, œuvre, Ångström, İstanbul, straße. CAFÉ Café cafe",
    "東京は日本の首都です。北京是中国的首都。 한국어 문장은 낱말 사이를 띄어 쓴다.",
    "In 1905, 3,000 words (more or less) cost $4.50; e-mail me@example.org ``quoted'' text.",
    "she sells sea shells by the sea shore, and the shells that she sells are sea shells",
]
TEXTS = [
    *LEARNT,
    "",
    " ",
    "  spaces   between\twords\nand lines \r\n at the ends  ",
    "a\u0301e\u0308 decomposed, \ufb01ligature, ＦＵＬＬ width, ① ½ ™",
    "emoji 😀 👩‍👩‍👧 🇫🇷 and \u200bzero\u200d width\ufeff",
    "control \x00\x01\x1f\x7f\x85\ufffd characters\u2028and\u00a0spaces\u3000",
    "unseen Ωmega жизнь ไทย हिन्दी العربية",
    "[CLS] [MASK] <mask> the<mask>dog [SEP]</s> <s> <pad>[UNK]<unk> <cls><sep> <extra_id_0>",
    "x" * 300 + " " + "ab" * 120,
]
PAIRS = list(zip(TEXTS, [*TEXTS[3:], *TEXTS[:3]], strict=True))

# family -> the class that `transformers` has for it. Those without one of their own are opened as any tokenizer.json is.
CLASSES = {
    **dict.fromkeys(FAMILIES, "BertTokenizer"),
    "distilbert": "DistilBertTokenizer", "mobilebert": "MobileBertTokenizer", "convbert": "ConvBertTokenizer",
    "squeezebert": "SqueezeBertTokenizer", "mpnet": "MPNetTokenizer", "funnel": "FunnelTokenizer",
    "roberta": "RobertaTokenizer", "longformer": "RobertaTokenizer", "deberta": "DebertaTokenizer",
    "modernbert": "PreTrainedTokenizerFast", "eurobert": "PreTrainedTokenizerFast",
    "nystromformer": "PreTrainedTokenizerFast", "albert": "AlbertTokenizer", "fnet": "FNetTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer", "deberta-v2": "DebertaV2Tokenizer",
    "xlnet": "XLNetTokenizer", "big_bird": "BigBirdTokenizer", "rembert": "RemBertTokenizer", "t5": "T5Tokenizer",
}  # fmt: skip
# RoFormer's class is for Chinese words (test_roformer_words.py); without them its tokenizer is BERT's
SPM = {"albert": "spiece", "big_bird": "spiece", "camembert": "sentencepiece.bpe", "deberta-v2": "spm", "fnet": "spiece",
       "rembert": "sentencepiece", "t5": "spiece", "xlm-roberta": "sentencepiece.bpe", "xlnet": "spiece"}  # fmt: skip
# one family for each scheme: the others share their tests
DIFFERENT = list({id(scheme): family for family, scheme in reversed(FAMILIES.items())}.values())


def ours(tokenizer: Tokenizer, rows: Sequence[Any]) -> list[tuple]:
    coded = tokenizer.encode_batch(list(rows))
    return [(e.ids, e.type_ids, e.special_tokens_mask, e.offsets) for e in coded]


def theirs(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Any]) -> list[tuple]:
    sides = list(zip(*rows, strict=True)) if isinstance(rows[0], tuple) else [rows]
    e = tokenizer(*map(list, sides), return_token_type_ids=True, return_special_tokens_mask=True,
                  return_offsets_mapping=True)  # fmt: skip
    keys = ("input_ids", "token_type_ids", "special_tokens_mask", "offset_mapping")
    return [tuple(e[key][i] for key in keys) for i in range(len(rows))]


def alike(tokenizer: Tokenizer, reference: PreTrainedTokenizerFast, rows: Sequence[Any]) -> bool:
    return ours(tokenizer, rows) == theirs(reference, rows)


def assert_alike(tokenizer: Tokenizer, reference: PreTrainedTokenizerFast, rows: Sequence[Any]) -> None:
    for row, a, b in zip(rows, ours(tokenizer, rows), theirs(reference, rows), strict=True):
        assert a == b, row


def reference(folder: Path, family: str) -> PreTrainedTokenizerFast:
    return getattr(transformers, CLASSES[family]).from_pretrained(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of trained tokenizers, one a scheme, by the family's name."""
    root = tmp_path_factory.mktemp("trained")
    (root / "text.txt").write_text("\n".join(LEARNT * 3), encoding="utf-8")
    for family in DIFFERENT:
        train_tokenizer(root / "text.txt", 420, root / family, family=family)
    return root


def same_scheme(family: str) -> str:
    return next(name for name in DIFFERENT if FAMILIES[name] is FAMILIES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_tokenizer_is_the_same_in_the_other_library(trained: Path, family: str) -> None:
    folder = trained / same_scheme(family)
    tokenizer, other = load_tokenizer(folder), reference(folder, family)
    assert_alike(tokenizer, other, TEXTS)
    assert_alike(tokenizer, other, PAIRS)


@pytest.mark.parametrize("family", [f for f in FAMILIES if FAMILIES[f].kind != "unigram" and CLASSES[f][0] != "P"])
def test_a_bare_vocabulary_becomes_the_family_s_tokenizer(trained: Path, family: str, tmp_path: Path) -> None:
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        if (file := trained / same_scheme(family) / name).exists():
            (tmp_path / name).write_bytes(file.read_bytes())
    tokenizer, other = load_tokenizer(tmp_path, family), reference(tmp_path, family)
    assert_alike(tokenizer, other, TEXTS)
    assert_alike(tokenizer, other, PAIRS)
    if family != "longformer":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        assert load_tokenizer(tmp_path).to_str() == tokenizer.to_str()
        (tmp_path / "config.json").unlink()
        assert load_tokenizer(tmp_path).to_str() == tokenizer.to_str()  # by its special tokens


@pytest.mark.parametrize("family", SPM)
def test_a_sentencepiece_model_becomes_the_family_s_tokenizer(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"fnet": "albert", "camembert": "xlm-roberta"}.get(family, family)
    (tmp_path / f"{SPM[family]}.model").write_bytes((MODELS / f"{made}.model").read_bytes())
    tokenizer = load_tokenizer(tmp_path, family)
    # the other library reads the file with protobuf, yet asks for sentencepiece
    pytest.importorskip("google.protobuf", reason="the other library reads a .model with protobuf")
    monkeypatch.setattr(convert_slow_tokenizer, "requires_backends", lambda *args: None)
    # FNet's class makes no template of a .model; it is ALBERT's by its documentation
    other = reference(tmp_path, "albert" if family == "fnet" else family)
    if family == "rembert":  # its class loses the template on the way from a .model, and not from a tokenizer.json
        assert other("a")["input_ids"][0] != other.cls_token_id
        other.backend_tokenizer.post_processor = tokenizer.post_processor
    if family == "xlm-roberta":
        assert len(other) == tokenizer.get_vocab_size() == len(read_pieces(MODELS / "xlm-roberta.model").pieces) + 2
    assert_alike(tokenizer, other, TEXTS)
    assert_alike(tokenizer, other, PAIRS)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{CLASSES[family]}Fast"}))
    assert load_tokenizer(tmp_path).to_str() == tokenizer.to_str()


@pytest.mark.parametrize("name", ["t5", "bpe"])
def test_pieces_are_those_of_the_sentencepiece_library(name: str) -> None:
    """ids.json holds what sentencepiece itself gives for the model (see make.py)."""
    tokenizer = load_tokenizer(MODELS / f"{name}.model", "t5")
    for text, ids in json.loads((MODELS / "ids.json").read_text(encoding="utf-8"))[name]:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


def test_a_sentencepiece_model_is_read_as_protobuf_reads_it() -> None:
    pytest.importorskip("google.protobuf")
    from transformers.utils import sentencepiece_model_pb2_new as pb2

    for file in MODELS.glob("*.model"):
        proto, found = pb2.ModelProto(), read_pieces(file)
        proto.ParseFromString(file.read_bytes())
        assert found.pieces == [(p.piece, p.score, p.type) for p in proto.pieces]
        spec = proto.trainer_spec
        assert (found.kind, found.unk, found.fall_back) == (spec.model_type, spec.unk_id, spec.byte_fallback)
        assert found.charsmap == proto.normalizer_spec.precompiled_charsmap != b""


def test_what_is_no_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    whole = (MODELS / "t5.model").read_bytes()
    file = tmp_path / "spiece.model"
    for content in (b"", b"no model at all\n", whole[:1000], b"\x80" * 30, b"\x0a\x7f"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is not a SentencePiece model"):
            load_tokenizer(file, "t5")
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="nothing tells which family"):
        load_tokenizer(file)
    with pytest.raises(ValueError, match="holds a unigram vocabulary"):
        load_tokenizer(file, "bert")
    with pytest.raises(ValueError, match="no tokenizer of a family 'gpt'; there are: albert,"):
        load_tokenizer(file, "gpt")


def test_a_tokenizer_config_is_heeded(trained: Path, tmp_path: Path) -> None:
    """Case, accents, names and added tokens, each as the other library heeds them."""
    settings: list[tuple[str, str, dict[str, Any]]] = [
        ("bert", "vocab.txt", {"do_lower_case": False}),
        ("bert", "vocab.txt", {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}),
        ("roberta", "vocab.json", {"add_prefix_space": True}),
        ("roberta", "vocab.json", {"added_tokens_decoder": {"419": {"content": "<mask>", "lstrip": True, "rstrip": False,
                                   "normalized": False, "single_word": False, "special": True}}}),
        ("albert", "spiece.model", {"do_lower_case": False, "keep_accents": True}),
        ("deberta-v2", "spm.model", {"do_lower_case": True, "split_by_punct": True}),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_slow_tokenizer, "requires_backends", lambda *args: None)
        for number, (family, name, config) in enumerate(settings):
            folder = tmp_path / str(number)
            folder.mkdir()
            source = MODELS / f"{family}.model" if name.endswith(".model") else trained / same_scheme(family) / name
            (folder / name).write_bytes(source.read_bytes())
            if name == "vocab.json":
                (folder / "merges.txt").write_bytes(source.with_name("merges.txt").read_bytes())
            plain = load_tokenizer(folder, family)
            (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": CLASSES[family]}))
            tokenizer, other = load_tokenizer(folder, family), reference(folder, family)
            assert_alike(tokenizer, other, TEXTS)
            assert_alike(tokenizer, other, PAIRS)
            assert not alike(plain, other, TEXTS), config  # the setting is heard
    wrong = {"added_tokens_decoder": {"7": {"content": "<mask>", "special": True}}}
    (tmp_path / "2" / "tokenizer_config.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="gives '<mask>' the id 7"):
        load_tokenizer(tmp_path / "2", "roberta")


@pytest.mark.parametrize("family", ["roberta", "funnel", "xlnet", "mpnet", "albert", "deberta", "t5", "camembert"])
def test_the_comparison_sees_a_wrong_scheme(trained: Path, family: str) -> None:
    """With BERT's template, with offsets that keep the space, or with text treated otherwise, it is not alike."""
    scheme, folder = FAMILIES[family], trained / same_scheme(family)
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    other = reference(folder, family)

    def of(made: Any) -> Tokenizer:
        if scheme.kind == "wordpiece":
            return assemble(made, WordPiece(state["vocab"], unk_token=scheme.names["unk"]))
        if scheme.kind == "bpe":
            merges = [tuple(pair) for pair in state["merges"]]
            return assemble(made, BPE(state["vocab"], merges, continuing_subword_prefix="", end_of_word_suffix=""))
        return assemble(made, Unigram([tuple(p) for p in state["vocab"]], unk_id=state["unk_id"], byte_fallback=False))

    assert alike(of(scheme), other, PAIRS)
    if family == "t5":
        assert not alike(of(replace(scheme, template=("$A {sep}", "$A {sep} $B:1 {sep}:1"))), other, PAIRS)
    elif family == "albert":
        assert not alike(of(replace(scheme, lowercase=False)), other, PAIRS)
    else:
        assert not alike(of(replace(scheme, trimmed=False, template=BERT.template)), other, PAIRS)
    if scheme.greedy and scheme.kind != "wordpiece":  # which drops spaces anyway
        assert not alike(of(replace(scheme, greedy=False)), other, PAIRS)
    if scheme.trimmed and scheme.kind == "bpe":
        assert not alike(of(replace(scheme, trimmed=False)), other, TEXTS)


def test_roles_are_told_by_the_content(trained: Path) -> None:
    for family in DIFFERENT:
        tokenizer, names = load_tokenizer(trained / family), FAMILIES[family].names
        assert roles(tokenizer) == {role: names[role] for role in ("pad", "unk", "cls", "sep", "mask") if role in names}
    t5 = load_tokenizer(trained / "t5")
    assert set(special_ids(t5, ("pad",))) == {"pad", "unk", "sep"}
    with pytest.raises(ValueError, match=r"no cls token: none of \[CLS\], <s>, <cls>"):
        special_ids(t5)
    # a template and a model with names that no family has
    words = WordPiece({"<what>": 0, "<go>": 1, "<end>": 2, "[PAD]": 3, "[CLS]": 4, "[SEP]": 5}, unk_token="<what>")
    made = assemble(replace(BERT, names={**BERT.names, "unk": "<what>", "cls": "<go>", "sep": "<end>"}), words)
    assert roles(made) == {"pad": "[PAD]", "unk": "<what>", "cls": "<go>", "sep": "<end>", "mask": "[MASK]"}


def test_tokens_are_shown_as_text(trained: Path) -> None:
    found = {}
    for family, token in {"bert": "##s", "roberta": "Ġthe", "albert": "▁the"}.items():
        tokenizer = load_tokenizer(trained / same_scheme(family))
        found[family] = shown(tokenizer, tokenizer.token_to_id(token))
    assert found == {"bert": "##s", "roberta": "the", "albert": "the"}
    tokenizer = load_tokenizer(trained / same_scheme("roberta"))
    assert shown(tokenizer, tokenizer.token_to_id("Ã")) == "Ã"  # half a character
    assert shown(tokenizer, tokenizer.token_to_id("<mask>")) == "<mask>"


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "xlm-roberta", "t5"])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_any_kind_takes_the_tokens_of_any_family(trained: Path, tmp_path: Path, kind: str, family: str) -> None:
    scheme = find_scheme(family)
    made = train_tokenizer(trained / "text.txt", 480, tmp_path, kind, family)
    names = [n for role, n in scheme.names.items() if role in ("pad", "unk", "cls", "sep", "mask")]
    assert special_ids(made, ()) == special_ids(load_tokenizer(tmp_path), ())
    assert all(made.token_to_id(n) is not None for n in names) and made.get_vocab_size() <= 480
    assert all(made.id_to_token(i) == n for i, n in enumerate(scheme.first))
    assert all(made.token_to_id(n) == made.get_vocab_size() - len(scheme.last) + i for i, n in enumerate(scheme.last))
    coded = made.encode("the sea shells", "the dogs")
    whole = [made.id_to_token(i) for i, special in zip(coded.ids, coded.special_tokens_mask, strict=True) if special]
    assert whole == [p.split(":")[0].format(**scheme.names) for p in scheme.template[1].split() if p[0] != "$"]
    text = made.decode(made.encode("the sea shells").ids).strip()
    assert text == "the sea shells"
    files = {"wordpiece": {"vocab.txt"}, "bpe": {"vocab.json", "merges.txt"}, "unigram": set()}[kind]
    assert {p.name for p in tmp_path.iterdir()} == {"tokenizer.json", *files}
    assert not any("A" <= c <= "Z" for t in made.get_vocab() for c in t if t not in names) or not scheme.lowercase or (
        kind == "bpe"  # bytes are shown by letters
    )  # fmt: skip


def test_training_gives_the_same_bytes_in_every_process(trained: Path, tmp_path: Path) -> None:
    """As the library trains them, Unigram vocabularies differ from run to run in the last digits and in rare characters."""
    code = (
        "import sys\nfrom bertsmith.tokenizer.train import train_tokenizer as t\n"
        "for family in ('roberta', 'albert', 'bert'): t(sys.argv[1], 420, sys.argv[2] + family, family=family)"
    )
    for name in "ab":
        subprocess.run([sys.executable, "-c", code, trained / "text.txt", f"{tmp_path}/{name}"], check=True)
    for family in ("roberta", "albert", "bert"):
        for file in (trained / same_scheme(family)).iterdir():
            made = [(tmp_path / f"{name}{family}" / file.name).read_bytes() for name in "ab"]
            assert made[0] == made[1] == file.read_bytes()


def test_wordpiece_of_bert_is_what_it_was(trained: Path) -> None:
    plain = train_wordpiece(trained / "text.txt", 420)
    assert plain.to_str() == train_tokenizer(trained / "text.txt", 420).to_str()
    assert plain.to_str() == load_tokenizer(trained / same_scheme("bert")).to_str()
    cased = train_tokenizer(trained / "text.txt", 420, lowercase=False)
    assert cased.to_str() == train_wordpiece(trained / "text.txt", 420, lowercase=False).to_str() != plain.to_str()


def test_impossible_requests_are_refused(trained: Path, tmp_path: Path) -> None:
    text = trained / "text.txt"
    for kind, family, size, said in [
        ("bpe", "roberta", 200, "a vocabulary of 200 is too small: the special tokens and the 256 bytes are 261"),
        ("unigram", "albert", 20, "a vocabulary of 20 is too small"),
        ("words", "bert", 400, "no vocabulary of kind 'words'; there are: wordpiece, bpe, unigram"),
        ("unigram", "eurobert", 400, "this family has none; ask for bpe"),
        ("", "gpt", 400, "no tokenizer of a family 'gpt'"),
    ]:
        with pytest.raises(ValueError, match=said):
            train_tokenizer(text, size, kind=kind, family=family)
    (tmp_path / "none.txt").write_text("\n\n")
    for kind in ("wordpiece", "bpe", "unigram"):
        with pytest.raises(ValueError, match="no text"):
            train_tokenizer(tmp_path / "none.txt", 400, kind=kind)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="merges.txt: no such file"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("a b c d\n")
    with pytest.raises(ValueError, match="is not a BPE vocabulary"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(ValueError, match="is not a BPE vocabulary: .*out of vocabulary"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match="nothing tells which family"):
        load_tokenizer(tmp_path)
    for name, family in (("vocab.txt", "roberta"), ("vocab.json", "bert")):
        (tmp_path / "vocab.txt").write_text("a\n")
        with pytest.raises(ValueError, match="the family that was named has a"):
            load_tokenizer(tmp_path / name, family)


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "xlm-roberta", "t5"])
def test_text_that_spells_a_special_token_stays_text(trained: Path, family: str) -> None:
    """In the ids that training reads, a special token means the end of a text, never a tag in it."""
    tokenizer = load_tokenizer(trained / same_scheme(family))
    special = {t.content for t in tokenizer.get_added_tokens_decoder().values()} - {FAMILIES[family].names["unk"]}
    text = [f"the {name} dog{name}s" for name in sorted(special)]
    encoder = Encoder(tokenizer)
    ids = {int.from_bytes(row[i : i + 2], "little") for row in encoder(text) for i in range(0, len(row), 2)}
    assert not {tokenizer.token_to_id(name) for name in special} & ids
    plain = [line for line in TEXTS if "[CLS]" not in line]
    want = [e.ids for e in tokenizer.encode_batch(plain, add_special_tokens=False)]
    assert [[int.from_bytes(r[i : i + 2], "little") for i in range(0, len(r), 2)] for r in encoder(plain)] == want


def test_prepare_takes_any_family_s_tokenizer(trained: Path, tmp_path: Path) -> None:
    for family in ("roberta", "xlnet", "t5"):
        manifest = prepare(trained / "text.txt", tmp_path / family, trained / same_scheme(family), 0)
        assert manifest["special"] == special_ids(load_tokenizer(trained / same_scheme(family)), ("pad",))


def test_a_tokenizer_that_adds_tokens_keeps_its_own_unknown(trained: Path) -> None:
    tokenizer = load_tokenizer(trained / same_scheme("mpnet"))
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True)])
    assert roles(tokenizer)["unk"] == "[UNK]"


@pytest.mark.parametrize("family", ["roberta", "big_bird"])
def test_a_model_uses_the_names_of_its_tokenizer(trained: Path, tmp_path: Path, family: str) -> None:
    tokenizer, mask = load_tokenizer(trained / same_scheme(family)), FAMILIES[family].names["mask"]
    torch.manual_seed(0)
    spec, head_spec = (
        bert_encoder(1, 16, 2, tokenizer.get_vocab_size(), hidden=16, length=32),
        head("masked_lm", norm=norm("layer")),
    )
    encoder = spec.build()
    model = Model(spec, Bundle(encoder, head_spec.build(encoder, 0)), tokenizer, head_spec)
    filled = model.fill(f"the {mask} dog")
    assert mask not in filled.text and filled.text == f"the {filled.guesses[0][0].token} dog"
    with pytest.raises(ValueError, match=f"has no {re.escape(mask)}"):
        model.fill("the dog")
    _, token_BT, layout = next(iter(model.tokens(["the sea", "the sea shells by the sea"])))
    assert (token_BT[layout.segment_BT == 0] == special_ids(tokenizer)["pad"]).all() and (layout.segment_BT == 0).any()
    model.save(tmp_path)
    said = json.loads((tmp_path / "special_tokens_map.json").read_text())
    assert said == {f"{role}_token": FAMILIES[family].names[role] for role in ("pad", "unk", "cls", "sep", "mask")}
    assert_alike(tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path), TEXTS)
    assert load(tmp_path).tokenizer.to_str() == tokenizer.to_str()


def test_the_command_trains_any_family(trained: Path, tmp_path: Path) -> None:
    ask = ["tokenizer", "train", str(trained / "text.txt"), "--out", str(tmp_path), "--size", "420", "--json"]
    done = CliRunner().invoke(app, [*ask, "--kind", "bpe", "--family", "roberta"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"out": str(tmp_path), "size": 420}
    made = (tmp_path / "tokenizer.json").read_bytes()
    assert made == (trained / same_scheme("roberta") / "tokenizer.json").read_bytes()
    done = CliRunner().invoke(app, ask)
    assert done.exit_code == 0 and roles(load_tokenizer(tmp_path)) == {r: f"[{r.upper()}]" for r in ROLES}


# --- real text, where it is there ------------------------------------------------------------------------------------

DATA = Path(os.environ.get("BERTSMITH_DATA", "nowhere"))
needs_data = pytest.mark.skipif(not (DATA / "samples").is_dir(), reason="BERTSMITH_DATA names no folder with samples")
SAMPLES = ("craft_1mb", "gesetze_de_2mb", "wiki_ko_2mb", "wiki_zh_2mb")
TASKS = ("glue_rte", "conjnli", "xcopa", "goemotions", "wnut17", "stsb_multi", "wikiann", "prompt_injection")


def sample(name: str, characters: int) -> list[str]:
    with lzma.open(DATA / "samples" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        return [line for line in file.read(characters).split("\n") if line.strip()]


def task_lines(name: str, most: int) -> Iterator[str]:
    """Lines of the files of a task as they stand, marks of tables and all: `most` characters of each of four files."""
    with tarfile.open(DATA / "tasks" / f"{name}.tar.xz") as archive:
        files = [
            m for m in archive if m.isfile() and m.name.endswith((".tsv", ".csv", ".json", ".jsonl", ".txt", ".conll"))
        ]
        for member in files[:4]:
            content = archive.extractfile(member)
            assert content is not None
            yield from filter(None, content.read(most).decode("utf-8", "ignore").split("\n"))


def in_pairs(lines: Iterable[str]) -> list[tuple[str, str]]:
    rows = list(lines)
    return list(zip(rows[::2], rows[1::2], strict=False))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Where the tokenizers trained on a part of all samples are, and lines to compare on."""
    root = tmp_path_factory.mktemp("real")
    lines = [line for name in SAMPLES for line in sample(name, 12_000)]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return root, lines


@needs_data
@pytest.mark.parametrize("family", DIFFERENT)
def test_samples_are_alike_in_the_other_library(real: tuple[Path, list[str]], family: str) -> None:
    root, lines = real
    train_tokenizer(root / "text.txt", 3000, root / family, family=family)
    tokenizer, other = load_tokenizer(root / family), reference(root / family, family)
    assert_alike(tokenizer, other, lines)
    assert_alike(tokenizer, other, in_pairs(lines))


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("family", DIFFERENT)
def test_whole_samples_and_tasks_are_alike_in_the_other_library(real: tuple[Path, list[str]], family: str) -> None:
    root, _ = real
    if not (root / family).exists():
        train_tokenizer(root / "text.txt", 3000, root / family, family=family)
    tokenizer, other = load_tokenizer(root / family), reference(root / family, family)
    for name in SAMPLES:
        assert_alike(tokenizer, other, sample(name, 3_000_000))
    for name in TASKS:
        lines = list(task_lines(name, 50_000))
        assert_alike(tokenizer, other, lines)
        assert_alike(tokenizer, other, in_pairs(lines))


VOCABULARIES = {  # published ones: file -> (our family, its settings, the samples to read with it)
    "bert-base-uncased-vocab.txt": ("bert", True),
    "bert-base-cased-vocab.txt": ("bert", False),
    "google_zh_vocab.txt": ("bert", True),
    "berturk_cased_bert-base-cased-qa-tr-squad_vocab.txt": ("bert", False),
    "scibert_scivocab_uncased.vocab.txt": ("bert", True),
    "gpt2-vocab.json": ("roberta", None),
    "roberta-base.json": ("roberta", None),
    "babyberta.json": ("roberta", None),
}


@needs_data
@pytest.mark.parametrize("name", VOCABULARIES)
def test_published_vocabularies_are_alike_in_the_other_library(name: str, tmp_path: Path) -> None:
    family, lowercase = VOCABULARIES[name]
    with tarfile.open(DATA / "tasks" / "vocab.tar.xz") as archive:
        content = {Path(m.name).name: archive.extractfile(m) for m in archive if m.isfile()}
        take = {"gpt2-vocab.json": ["gpt2-vocab.json", "gpt2-merges.txt"]}.get(name, [name])
        for part in take:
            kept = "vocab.txt" if "vocab.txt" in part else {"gpt2-vocab.json": "vocab.json"}.get(part, "tokenizer.json")
            file = content[part]
            assert file is not None
            read = file.read()
            if "merges" in part:  # this copy of the vocabulary lacks its last token, which the last merge makes
                (tmp_path / "merges.txt").write_bytes(read.rstrip().rpartition(b"\n")[0] + b"\n")
            else:
                (tmp_path / kept).write_bytes(read)
    if lowercase is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    whole = (tmp_path / "tokenizer.json").exists()
    tokenizer = load_tokenizer(tmp_path, family)
    other = PreTrainedTokenizerFast.from_pretrained(tmp_path) if whole else reference(tmp_path, family)
    lines = [line for sample_name in SAMPLES for line in sample(sample_name, 12_000)]
    lines += [line for task in ("glue_rte", "goemotions", "xcopa") for line in task_lines(task, 5_000)]
    assert_alike(tokenizer, other, lines)
    assert_alike(tokenizer, other, in_pairs(lines))
    assert special_ids(tokenizer)


def test_templates_are_those_of_the_reference() -> None:
    """What the module says of the families that differ: types and places of the special tokens."""
    assert FUNNEL.template[0].startswith("{cls}:2") and XLNET.template[0].endswith("{cls}:2")
    assert ROBERTA.template[1].count("{sep}") == 3
