"""RoFormer's Chinese words: the ids, types and offsets of `transformers`, through every way a tokenizer is kept and copied."""

import json
from pathlib import Path

import pytest
import transformers
from test_tokenizer_families import assert_alike
from tokenizers import Tokenizer

from bertsmith import jieba
from bertsmith.corpus.prepare import prepare
from bertsmith.estimators import Packed
from bertsmith.hf.bert import bert_encoder
from bertsmith.model import Bundle, Model, load
from bertsmith.tokenizer.families import BERT
from bertsmith.tokenizer.load import load_tokenizer

CHINESE = [
    "今天天气非常好。",
    "北京是中国的首都，上海不是。",
    "我们中出了一个叛徒",
    "研究生命的起源，南京市长江大桥",
    "他在2021年买了3.5公斤苹果, 花了￥20元!",
    "BERT和RoFormer都是预训练模型 (Transformer)。",
    "東京は日本の首都です。 한국어",
    "café naïve ＦＵＬＬ 宽度　全角空格\t制表符",
    "𠀀𠀁 扩展区的汉字",
    "[MASK]天气 [SEP] 😀非常",
    "",
    "   ",
]
PAIRS = list(zip(CHINESE, CHINESE[1:] + CHINESE[:1], strict=True))
WORDS = ["天气", "非常", "北京", "中国", "首都", "上海", "我们", "一个", "研究", "生命", "起源", "南京市", "长江大桥", "公斤",
         "模型", "和", "bert", "20", "3", ".", "5", "元", "caf", "##e", "cafe", "f", "##ull", "full", "。"]  # fmt: skip
SOME = sorted({c for text in CHINESE[:6] for c in text if c > "\u4e00"} - set("叛桥"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with RoFormer's vocab.txt and what names its family."""
    (tmp_path / "vocab.txt").write_text("\n".join([*BERT.first, *WORDS, *(c for c in SOME if c not in WORDS)]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RoFormerTokenizer"}))
    return tmp_path


@pytest.fixture
def words() -> None:
    pytest.importorskip("rjieba", reason="rjieba is not installed (an extra: chinese)")


def test_ids_types_and_offsets_are_the_references(folder: Path, words: None, tmp_path: Path) -> None:
    ours = load_tokenizer(folder)
    # opened from a folder, the class of 5.23 looks for the words in the path of the vocabulary, and finds none
    theirs = transformers.RoFormerTokenizer(ours.get_vocab())
    assert ours.encode("今天天气非常好。").tokens == ["[CLS]", "今", "天", "天", "气", "非常", "好", "。", "[SEP]"]
    assert_alike(ours, theirs, CHINESE)
    assert_alike(ours, theirs, PAIRS)
    copy = jieba.from_text(jieba.to_text(ours))
    assert_alike(copy, theirs, CHINESE)
    assert jieba.to_text(copy) == jieba.to_text(ours)
    # what they save says nothing of words but the name of the class; what we save bears a mark
    theirs.save_pretrained(tmp_path / "theirs")
    assert_alike(load_tokenizer(tmp_path / "theirs"), theirs, CHINESE)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/tokenizer.json").write_text(jieba.to_text(ours))
    assert_alike(load_tokenizer(tmp_path / "ours"), theirs, CHINESE)


def test_a_tokenizer_is_written_as_it_would_be_without_words(folder: Path, words: None) -> None:
    ours, plain = load_tokenizer(folder), load_tokenizer(folder, "bert")
    for one in (ours, plain):
        one.add_tokens(["新词", "w9"])
        one.enable_truncation(7, stride=2)
        one.enable_padding(length=9)
    plain.normalizer.handle_chinese_chars = False
    plain.pre_tokenizer = jieba.MARK
    assert jieba.to_text(ours) == plain.to_str()
    assert jieba.to_text(Tokenizer.from_str(plain.to_str())) == plain.to_str()


def test_a_model_keeps_its_words(folder: Path, words: None, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    spec = bert_encoder(1, 16, 2, tokenizer.get_vocab_size(), length=24)
    model = Model(spec, Bundle(spec.build(), None), tokenizer, max_length=24)
    model.save(tmp_path / "model")
    want = [code.ids for code in tokenizer.encode_batch(CHINESE)]
    for one in (load(tmp_path / "model"), Packed.of(model).model()):
        assert [code.ids for code in one.coder().encode(CHINESE)] == want
    long = "天气非常好，" * 20
    assert [len(code) for code in model.coder().encode([long])] == [24]
    (tmp_path / "text.txt").write_text("\n".join(CHINESE[:4]))
    tokens = sum(len(code.ids) - 2 for code in tokenizer.encode_batch(CHINESE[:4]))
    for workers in (0, 1):  # a worker is given the tokenizer as text
        made = prepare(tmp_path / "text.txt", tmp_path / f"shards{workers}", tokenizer, workers)
        assert made["tokens"] == tokens


def test_without_the_package_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jieba, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"has 15 Chinese words \(一个, .*pip install 'bertsmith\[chinese\]'.*rjieba"):
        load_tokenizer(folder)
    bert = load_tokenizer(folder, "bert")
    assert bert.encode("今天天气").tokens == ["[CLS]", "今", "天", "天", "气", "[SEP]"]
    # a vocabulary without Chinese words is BERT's
    (folder / "vocab.txt").write_text("\n".join([*BERT.first, "北", "京", "a"]))
    assert load_tokenizer(folder).to_str() == load_tokenizer(folder, "bert").to_str()
