"""Text to ids by the kernel: those of the tokenizers library, cut, counted and refused as `Coder.encode` has it."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from bertsmith import native
from bertsmith.coding import Coder
from bertsmith.model import _rows
from bertsmith.wordpiece import CHARACTERS, compiled

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    "un",
    "##aff",
    "##able",
    "a",
    "##b",
    "##ba",
    "b",
    "the",
    "running",
    "##ing",
    "run",
    ",",
    ".",
    "!",
    "'",
    "é",
    "##é",
    "e",
    "##e",
]
PIECES += [
    *"cdfghijklmnop",
    *(f"##{c}" for c in "cdfghijklmnop"),
    "Ab",
    "##C",
    "ß",
    "ω",
    "##ω",
    "##",
    "#",
    "中",
    "ह",
    "##ि",
]


def tokenizer(longest: int = 100, **how) -> Tokenizer:
    pieces = SPECIAL + PIECES
    made = Tokenizer(
        WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=longest)
    )
    made.normalizer, made.pre_tokenizer = BertNormalizer(**how), BertPreTokenizer()
    made.add_special_tokens(SPECIAL)
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


ONES = {
    "uncased": tokenizer(),
    "cased": tokenizer(lowercase=False),
    "with accents": tokenizer(strip_accents=False),
    "as it stands": tokenizer(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False),
    "short words": tokenizer(longest=5),
}


@pytest.mark.parametrize("name", ONES)
@given(text=st.text(st.one_of(st.sampled_from("abcé un,.'[]#中 \t\n"), st.characters(codec="utf-8")), max_size=30))
@settings(max_examples=200, deadline=None)
def test_ids_are_the_library_s(name, text):
    one = ONES[name]
    flat, (want,) = Coder(one, 64).flat([text]), one.encode_batch([text])
    assert flat.ids.tolist() == want.ids


@pytest.mark.parametrize("name", ONES)
def test_every_character_of_the_table_between_others(name):
    one, draw = ONES[name], random.Random(0)
    texts = [f"a{chr(c)}b {chr(c)}{chr(draw.randrange(32, CHARACTERS))}un" for c in range(1, CHARACTERS)]
    made = compiled(one)
    ids, starts, whole = made(texts, 64, 2)
    assert (whole > 0).mean() > 0.9  # of all that the table may hold, nine tenths are in it
    for i, want in enumerate(one.encode_batch(texts)):
        if whole[i] > 0:
            assert ids[starts[i] : starts[i + 1]].tolist() == want.ids, texts[i]
            assert whole[i] == len(want.ids)


def test_texts_for_the_library_stand_in_their_places():
    one = tokenizer()
    texts = ["the", "the [MASK] run", "中中 \U0001f600", "", "unaffable!", "\U0001d165a", "a" * 101]
    made = compiled(one)
    assert [i for i, n in enumerate(made(texts, 64, 1)[2]) if n < 0] == [1, 2, 5]
    flat = Coder(one, 64).flat(texts)
    want = [code.ids for code in one.encode_batch(texts)]
    assert [flat.ids[a:b].tolist() for a, b in zip(flat.starts, flat.starts[1:], strict=False)] == want
    assert flat.types is None


@pytest.mark.parametrize("text", ["the run ", "\U0001f600 the run "])
def test_cut_and_counted_as_the_library_s(text):
    one, texts = tokenizer(), ["a", text * 9, "run , run"]
    quick, slow = Coder(one, 8), Coder(one, 8)
    flat, want = quick.flat(texts), slow.encode(texts)
    assert flat.ids.tolist() == [i for code in want for i in code.ids]
    assert (quick.cut, quick.seen, quick.lost) == (slow.cut, slow.seen, slow.lost) == (1, slow.seen, slow.lost)
    with pytest.raises(ValueError, match="text 1 has .* tokens, more than 8"):
        Coder(one, 8, "error").flat(texts)


def test_other_tokenizers_are_the_library_s():
    def is_left(change) -> bool:
        one = tokenizer()
        change(one)
        text = ["the RUN unaffable"]
        assert Coder(one, 64).flat(text).ids.tolist() == one.encode_batch(text)[0].ids
        return compiled(one) is None

    assert not is_left(lambda one: None)
    assert is_left(lambda one: setattr(one, "model", WordPiece({"a": 0, "[UNK]": 5}, unk_token="[UNK]")))
    assert is_left(lambda one: one.add_tokens([AddedToken("RUN", normalized=True)]))
    assert is_left(lambda one: one.enable_padding(length=9))
    assert is_left(lambda one: setattr(one, "normalizer", None))


@pytest.mark.parametrize(
    "change", [lambda one: one.add_special_tokens(["run"]), lambda one: one.enable_padding(length=9)]
)
def test_a_change_of_the_tokenizer_is_seen(change):
    one = tokenizer()
    before = Coder(one, 64).flat(["the running"]).ids.tolist()
    assert before == one.encode("the running").ids
    change(one)
    assert Coder(one, 64).flat(["the running"]).ids.tolist() == one.encode("the running").ids != before


def test_no_text_and_half_a_surrogate_pair():
    one = tokenizer()
    assert len(Coder(one, 64).flat([])) == 0
    with pytest.raises((TypeError, UnicodeError)):  # the library's own, as before
        Coder(one, 64).flat(["\ud800"])
    assert np.array_equal(
        Coder(one, 64).flat(["run"] * 100, threads=2).ids, np.tile([2, one.token_to_id("run"), 3], 100)
    )


@pytest.mark.parametrize("text", [None, 3, float("nan"), b"run"])
def test_what_is_no_text_is_named(text):
    with pytest.raises(TypeError, match=r"text 1 is .* not a string: leave it out or make it one"):
        _rows(["run", text])
