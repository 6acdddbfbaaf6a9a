"""Vocabularies: training is deterministic, loading is strict, encoding by words is exact."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bertsmith.corpus.encode import Encoder, splits_at_spaces
from bertsmith.tokenizer.load import load_tokenizer, special_ids
from bertsmith.tokenizer.train import SPECIAL, train_wordpiece

TEXT = "The cat's CAFÉ — don't! naïve 東京 (x) [MASK] A.B.C 3.14 hello world running runner\n" * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    (path / "a.txt").write_text(TEXT)
    train_wordpiece(path / "a.txt", 120, path / "out")
    return path


def test_special_tokens_come_first(folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "out")
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    assert special_ids(tokenizer) == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    encoding = tokenizer.encode("Hello", "World")
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]" and encoding.tokens.count("[SEP]") == 2
    assert encoding.type_ids == sorted(encoding.type_ids) and encoding.type_ids[-1] == 1
    assert tokenizer.encode("[MASK]").ids == [2, 4, 3]


def test_training_gives_the_same_bytes_in_every_process(folder: Path) -> None:
    """The library's own trainer numbers inner characters in hash order: this fails with it."""
    code = "import sys\nfrom bertsmith.tokenizer.train import train_wordpiece as t\nt(sys.argv[1], 120, sys.argv[2])"
    for name in ("b", "c"):
        subprocess.run([sys.executable, "-c", code, folder / "a.txt", folder / name], check=True, env=dict(os.environ))
    for file in ("vocab.txt", "tokenizer.json"):
        assert (
            (folder / "b" / file).read_bytes()
            == (folder / "c" / file).read_bytes()
            == (folder / "out" / file).read_bytes()
        )


def test_case_is_kept_when_asked_and_known_again_from_a_vocabulary(folder: Path) -> None:
    train_wordpiece(folder / "a.txt", 150, folder / "cased", lowercase=False)
    for name in ("cased", "out"):
        whole, words = load_tokenizer(folder / name), load_tokenizer(folder / name / "vocab.txt")
        assert whole.to_str() == words.to_str()
    assert "T" in load_tokenizer(folder / "cased").get_vocab() and "T" not in load_tokenizer(folder / "out").get_vocab()


def test_impossible_requests_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="too small: the special tokens and the characters are"):
        train_wordpiece(folder / "a.txt", 12)
    (folder / "none.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="no text"):
        train_wordpiece(folder / "none.txt", 100)


def test_loading_refuses_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds neither"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_tokenizer(tmp_path / "x.json")
    bad = {"a.json": "{}", "b.json": "not json", "c.bin": "", "d.txt": "a\nb\n", "e.txt": "a\na\n", "f.json": "[1]"}
    wanted = ["not a tokenizer.json"] * 2 + [
        "not a .bin",
        r"\[PAD\], \[UNK\]",
        "stands in it twice",
        "not a tokenizer.json",
    ]
    for (name, content), message in zip(bad.items(), wanted, strict=True):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            load_tokenizer(tmp_path / name)
    vocabulary = {"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100}}  # fmt: skip
    (tmp_path / "g.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match="no pad token"):
        load_tokenizer(tmp_path / "g.json")


CHARACTERS = st.sampled_from(
    list("abcdeAÉé .,-'[]  \t\u00a0\u0301\x00\x1f\ufffd東京ßİ\u200d😀") + ["[SEP]", "cat", "world "]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CHARACTERS, max_size=30).map("".join), min_size=1, max_size=4))
def test_encoding_by_words_is_what_the_library_does(paragraphs: list[str]) -> None:
    for lowercase in (True, False):
        encoder, reference = _encoders(lowercase)
        found = [np.frombuffer(ids, encoder.dtype).tolist() for ids in encoder(paragraphs)]
        assert encoder.by_word
        assert found == [e.ids for e in reference.encode_batch(paragraphs, add_special_tokens=False)]


_made: dict[bool, tuple[Encoder, Tokenizer]] = {}


def _encoders(lowercase: bool) -> tuple[Encoder, Tokenizer]:
    if lowercase not in _made:
        from tokenizers.models import WordPiece

        from bertsmith.tokenizer.train import bert_pipeline

        tokens = [*SPECIAL, *"abcdeAÉé.,-'[]東ßSEP", *(f"##{c}" for c in "abcdeAEPsepß"), "cat", "world", "##s"]
        tokenizer = bert_pipeline(
            WordPiece({t: i for i, t in enumerate(dict.fromkeys(tokens))}, unk_token="[UNK]"), lowercase, 2, 3
        )
        tokenizer.add_special_tokens(list(SPECIAL))
        reference = Tokenizer.from_str(tokenizer.to_str())
        reference.encode_special_tokens = True
        _made[lowercase] = Encoder(tokenizer), reference
    return _made[lowercase]


def test_other_tokenizers_are_encoded_by_paragraph() -> None:
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    tokenizer = Tokenizer(BPE({"a": 0, "Ġ": 1, "b": 2}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    assert not splits_at_spaces(tokenizer)
    assert np.frombuffer(Encoder(tokenizer)(["a b"])[0], "<u2").tolist() == [1, 0, 1, 2]


def test_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import bertsmith.corpus.encode as module

    encoder, _ = _encoders(True)
    monkeypatch.setattr(module, "WORDS", 50)
    for start in range(0, 1000, 20):
        encoder([" ".join(f"a{n}" for n in range(start, start + 20))])
        assert len(encoder.known) <= 50 + 40
