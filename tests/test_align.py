"""Words and tokens: characters go in and come out, over WordPiece, byte-level BPE and Unigram, whatever the text."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace

from bertsmith.align import align, characters, cover, encode_words, find_words, token_places
from bertsmith.labelled.spans import Span
from bertsmith.tags import snap, tag_names, to_spans, to_tags
from bertsmith.tokenizer.families import FAMILIES
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.train import train_tokenizer
from bertsmith.wordrows import word_bytes

LEARNT = [
    "The quick brown fox's friend isn't here... don't wait; they've slept!!! (enough), he said.",
    "Le chat a déjà mangé: naïve façade, œuvre, Ångström. CAFÉ Café",
    "北京是中国的首都。北京北京中国中国。東京は日本の首都です。 한국어 문장은 낱말 사이를 띄어 쓴다.",
    "😀😀😀 😀 👩‍👩‍👧 costs $4.50... e-mail me@example.org, 3,000 words!!!",
    "she sells sea shells by the sea shore, and the shells that she sells are sea shells",
]
# byte-level with and without the space in the offsets, with and without one before the first word, by two ways to cut
FAMILY = {
    "bert": "wordpiece, folded", "roformer": "wordpiece", "roberta": "bytes, trimmed", "deberta": "bytes",
    "eurobert": "bytes, cut otherwise", "albert": "unigram", "deberta-v2": "unigram, first", "t5": "unigram, one [SEP]",
}  # fmt: skip
LABELS = ["A", "B"]
NAMES = {scheme: tag_names(LABELS, scheme) for scheme in ("bio", "bilou", "word")}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    root = tmp_path_factory.mktemp("tokenizers")
    (root / "text.txt").write_text("\n".join(LEARNT * 4), encoding="utf-8")
    made = {family: train_tokenizer(root / "text.txt", 460, family=family) for family in FAMILY}
    made["roberta, prefixed"] = train_tokenizer(root / "text.txt", 460, root / "prefixed", family="roberta")
    (root / "prefixed" / "tokenizer.json").unlink()
    (root / "prefixed" / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    made["roberta, prefixed"] = load_tokenizer(root / "prefixed", "roberta")
    return made


SIGNS = [
    *"abcdeThe ", *" .,!'-()…«€$½_", *"北京中国日本のです", *"한국어", *"ไทย", 
    "e\u0301", "a\u0308\u0323", "\u0301", "İ", "ß", "ﬁ", "Ｆ",
    "😀", "👩‍👩‍👧", "👍🏽", "🇫🇷", "❤️", "1️⃣", "\u200b", "\u00ad", "\x00", "\x07", "\ufeff",
    "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028",
    "...", "don't", "the", " shells", "北京", "[SEP]", "<s>", "##s", "Ġ", "▁", "Ωж", "ا", "हि",
]  # fmt: skip
texts = st.lists(st.sampled_from(SIGNS), max_size=14).map("".join)


def some_spans(words: list[Span], seed: int) -> list[Span]:
    """Disjoint spans that begin and end with words."""
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(len(words) + 1), rng.randint(0, len(words) + 1)))
    found = [Span(words[a].start, words[b - 1].end, rng.choice(LABELS)) for a, b in pairwise(cuts)]
    return [span for span in found if rng.random() < 0.7]


def other_words(text: str, seed: int) -> list[Span]:
    """Words as data may have them: stretches without white space, cut anywhere."""
    rng = random.Random(seed)
    found, begin = [], None
    for i, char in enumerate(text + " "):
        if begin is not None and (char.isspace() or rng.random() < 0.3):
            found.append(Span(begin, i))
            begin = None
        if begin is None and not char.isspace():
            begin = i
    return found


def round_trip(text: str, codes: list[Encoding], words: list[Span], spans: list[Span], scheme: str) -> list[Span]:
    found = align(text, codes, words)
    tags = to_tags(spans, found.words, scheme)
    target = found.spread([NAMES[scheme].index(tag) for tag in tags])
    for row, begins in zip(target, found.begins, strict=True):
        assert [t for t, k in enumerate(row) if k != -100] == [t for t, w in enumerate(begins) if w >= 0]
    return to_spans([NAMES[scheme][k] for k in found.gather(target)], found.words, scheme)


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(0, 1 << 30), st.sampled_from(["bio", "bilou"]), st.booleans(), st.data())
def test_spans_to_targets_to_spans_is_the_identity(tokenizers, text, seed, scheme, by_rule, data):
    """For any text, any words and any spans on their borders; words that have no token are those that leave none alone."""
    tokenizer = tokenizers[data.draw(st.sampled_from(sorted(tokenizers)))]
    words = find_words(text) if by_rule else other_words(text, seed)
    code = encode_words(tokenizer, [text], [words])[0]
    found = align(text, [code], words)
    for word, number in zip(words, found.of, strict=True):
        if number >= 0:
            assert found.words[number] == word
            continue
        alone = tokenizer.encode(text[word.start : word.end], add_special_tokens=False)
        assert all(place[0] < 0 for place in token_places(text[word.start : word.end], alone)), word
    spans = some_spans(found.words, seed)
    assert round_trip(text, [code], words, spans, scheme) == spans
    kept = [span for span in snap(some_spans(words, seed), found.words) if span]
    kept = [a for i, a in enumerate(kept) if not any(a.start < b.end for b in kept[:i])]
    assert round_trip(text, [code], words, kept, scheme) == kept


@settings(max_examples=40, deadline=None)
@given(texts)
def test_bytes_lose_nothing(tokenizers, text):
    for family in ("roberta", "deberta", "eurobert", "roberta, prefixed"):
        words = find_words(text)
        assert align(text, encode_words(tokenizers[family], [text], [words]), words).words == words, family


@settings(max_examples=40, deadline=None)
@given(texts, st.integers(2, 30))
def test_every_token_has_the_bytes_of_its_word(tokenizers, text, most):
    for tokenizer in tokenizers.values():
        words = find_words(text)
        found = align(text, encode_words(tokenizer, [text], [words]), words)
        for number, row in zip(found.word[0], word_bytes(text, found, 0, most).tolist(), strict=True):
            word = found.words[number] if number >= 0 else Span(0, 0)
            raw, seen = text[word.start : word.end].encode(), bytes(b - 1 for b in row if b)
            assert seen == raw if len(raw) <= most else raw.startswith(seen[: most // 2]) and len(seen) == most
            assert raw.endswith(seen[most // 2 :]) and not any(row[len(seen) :])


@settings(max_examples=40, deadline=None)
@given(texts)
def test_places_of_tokens_never_begin_or_end_with_white_space(tokenizers, text):
    for tokenizer in tokenizers.values():
        words = find_words(text)
        code = encode_words(tokenizer, [text], [words])[0]
        special = sum(number is None for number in code.sequence_ids)
        places = token_places(text, code)
        assert len(places) == len(code.ids) and sum(start < 0 for start, _ in places) >= special
        for start, end in places:
            inner = text[start:end] if start >= 0 else "x"
            assert inner and inner == inner.strip()


@settings(max_examples=40, deadline=None)
@given(texts, st.integers(0, 1 << 30), st.integers(6, 12), st.integers(0, 3), st.data())
def test_windows_together_have_every_word(tokenizers, text, seed, length, stride, data):
    """A word is asked once a window at the most, and its answer comes from where it begins."""
    tokenizer = Tokenizer.from_str(tokenizers[data.draw(st.sampled_from(sorted(tokenizers)))].to_str())
    words = find_words(text)
    whole = align(text, encode_words(tokenizer, [text], [words]), words)
    tokenizer.enable_truncation(length, stride=stride)
    code = encode_words(tokenizer, [text], [words])[0]
    codes = [code, *code.overflowing]
    found = align(text, codes, words)
    assert found.words == whole.words and found.gather(found.spread(range(len(found.words)))) == list(
        range(len(found.words))
    )
    for row in found.begins:
        asked = [w for w in row if w >= 0]
        assert asked == sorted(set(asked))
    own = [[t for t, place in enumerate(token_places(text, one)) if place[0] >= 0] for one in codes]
    for w, (r, t) in enumerate(found.best):
        there = [(i, row.index(w)) for i, row in enumerate(found.begins) if w in row]
        context = {(i, k): min(k - own[i][0], own[i][-1] - k) for i, k in there}
        assert context[r, t] == max(context.values())
    spans = some_spans(found.words, seed)
    assert round_trip(text, codes, words, spans, "bio") == spans


@settings(max_examples=40, deadline=None)
@given(texts, st.integers(0, 1 << 30), st.data())
def test_spans_and_tokens_cover_one_another(tokenizers, text, seed, data):
    """What a span's tokens stand for holds the span, and is the span where no token goes over its borders."""
    tokenizer = tokenizers[data.draw(st.sampled_from(sorted(tokenizers)))]
    words = find_words(text)
    code = encode_words(tokenizer, [text], [words])[0]
    places = [place for place in token_places(text, code) if place[0] >= 0]
    for span in some_spans(align(text, [code], words).words, seed):
        tokens = cover(text, code, span)
        if tokens is None:  # its first or last characters have no token: a lone mark
            assert not any(a <= span.start < b for a, b in places) or not any(a < span.end <= b for a, b in places)
            continue
        back = characters(text, code, *tokens)
        assert back is not None and back.start <= span.start and span.end <= back.end
        if not any(a < span.start < b or a < span.end < b for a, b in places):
            assert (back.start, back.end) == (span.start, span.end)


def test_texts_whose_words_have_tokens_are_encoded_as_ever(tokenizers):
    plain = ["she sells sea shells", "the quick brown fox", "", "  two   spaces "]
    for family, tokenizer in tokenizers.items():
        words = [find_words(text) for text in plain]
        for ours, theirs in zip(encode_words(tokenizer, plain, words), tokenizer.encode_batch(plain), strict=True):
            assert (ours.ids, ours.offsets) == (theirs.ids, theirs.offsets), family


@pytest.mark.parametrize(
    ("family", "text", "lost"),
    [
        ("roberta", "he said...", 2),  # "..." is one token
        ("roberta", "a 😀😀😀", 2),
        ("roberta", "北京北京", 3),
        ("albert", "北京 the fox's", 1),
        ("bert", "🦄the end", 1),  # one unknown word for the library, two by the rule
    ],
)
def test_where_tokens_join_words_the_text_is_cut(tokenizers, family, text, lost):
    tokenizer, words = tokenizers[family], find_words(text)
    natural, cut = tokenizer.encode(text), encode_words(tokenizer, [text], [words])[0]
    assert len(words) - len(align(text, [natural], words).words) == lost
    found = align(text, [cut], words)
    assert found.words == words
    assert (cut.ids == natural.ids) == (lost == 0)
    assert [text[a:b] for a, b in token_places(text, cut) if a >= 0][-1] in text[words[-1].start :]
    assert cut.offsets[-2][1] == len(text) or not lost  # places count the whole text
    assert cut.special_tokens_mask == [int(n is None) for n in cut.sequence_ids]


def test_a_word_that_the_normaliser_swallows_gets_a_piece_of_its_own(tokenizers):
    """ALBERT's reads two apostrophes as a quotation mark, which begins at the second one: it is cut at its end."""
    text, words = "''", [Span(0, 1), Span(1, 2)]
    assert align(text, [tokenizers["albert"].encode(text)], words).words == words[1:]
    assert align(text, encode_words(tokenizers["albert"], [text], [words]), words).words == words


def test_a_piece_that_begins_with_a_word_has_the_space_before_it():
    """In a vocabulary whose tokens go over spaces."""
    pieces = [("<unk>", 0.0), ("▁a▁b", -1.0), ("▁a", -2.0), ("▁b", -2.0), ("▁", -9.0), ("a", -9.0), ("b", -9.0)]
    tokenizer = Tokenizer(Unigram(pieces, 0))
    tokenizer.pre_tokenizer = Metaspace(split=False)
    text = "a b"
    assert tokenizer.encode(text).tokens == ["▁a▁b"]
    code = encode_words(tokenizer, [text], [find_words(text)])[0]
    assert code.tokens == ["▁a", "▁b"] and token_places(text, code) == [(0, 1), (2, 3)]


def test_the_space_of_a_token_belongs_to_no_word(tokenizers):
    text = "the sea  shells"
    words = find_words(text)
    for family in ("roberta", "deberta", "eurobert", "albert", "t5", "bert"):
        code = tokenizers[family].encode(text)
        found = align(text, [code], words)
        first = [row.index(w) for row in found.begins for w in range(3)]
        assert [token_places(text, code)[t][0] for t in first] == [0, 4, 9], family
        tokens = cover(text, code, Span(4, 7))
        assert tokens is not None and characters(text, code, *tokens) == Span(4, 7)
    untrimmed = tokenizers["deberta"].encode(text)
    assert (3, 7) in untrimmed.offsets  # " sea" with its space


def test_bytes_of_one_character_are_one_word(tokenizers):
    text = "🦄 ok"
    code = tokenizers["roberta"].encode(text)
    found = align(text, [code], find_words(text))
    assert [w for w in found.word[0] if w == 0] == [0] * 3 and found.begins[0].count(0) == 1


def test_the_second_text_of_a_pair_is_asked_alone(tokenizers):
    text = "the sea"
    code = tokenizers["bert"].encode("the sea sells", text)
    found = align(text, [code], find_words(text), sequence=1)
    types = [code.type_ids[t] for t, w in enumerate(found.begins[0]) if w >= 0]
    assert types == [1, 1] and len(found.words) == 2
    assert cover(text, code, Span(4, 7), 1) != cover(text, code, Span(4, 7), 0)


def test_words_that_share_a_place_share_their_token(tokenizers):
    text, words = "the sea", [Span(0, 3), Span(0, 3), Span(4, 7)]
    found = align(text, [tokenizers["bert"].encode(text)], words)
    assert found.words == [Span(0, 3), Span(4, 7)] and found.of == [0, 0, 1]
    with pytest.raises(ValueError, match="words 0-3 and 2-7 overlap"):
        align(text, [tokenizers["bert"].encode(text)], [Span(0, 3), Span(2, 7)])


def test_what_is_cut_off_has_no_words(tokenizers):
    tokenizer = Tokenizer.from_str(tokenizers["bert"].to_str())
    tokenizer.enable_truncation(4)
    text = "the sea shells"
    found = align(text, encode_words(tokenizer, [text], [find_words(text)]), find_words(text))
    assert found.words == [Span(0, 3), Span(4, 7)] and found.of == [0, 1, -1]
    assert snap([Span(8, 14, "A"), Span(4, 14, "B")], found.words) == [None, Span(4, 7, "B")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5 €—no?", ["It", "'", "s", "3", ".", "5", "€", "—", "no", "?"]),
        ("  a\tb\u00a0c\u3000d\r\ne ", ["a", "b", "c", "d", "e"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("北京 ab中c", ["北", "京", "ab", "中", "c"]),
        ("東京です한국어 말", ["東", "京", "で", "す", "한국어", "말"]),
        ("👩‍👩‍👧👍🏽🇫🇷🇩🇪❤️‍🔥1️⃣x", ["👩‍👩‍👧", "👍🏽", "🇫🇷", "🇩🇪", "❤️‍🔥", "1️⃣x"]),
        ("a\u200bb\u00adc", ["a\u200bb\u00adc"]),
        ("हिन्दी العربية", ["हिन्दी", "العربية"]),
        ("ภาษา", ["ภ", "า", "ษ", "า"]),
        ("", []),
        (" \n", []),
        ("\u0301a", ["\u0301a"]),
        ("_#tag", ["_", "#", "tag"]),
    ],
)
def test_words_are_found_in_any_script(text, words):
    assert [text[word.start : word.end] for word in find_words(text)] == words


@settings(deadline=None)
@given(st.text())
def test_words_leave_out_white_space_alone(text):
    words = find_words(text)
    inside = {i for word in words for i in range(word.start, word.end)}
    assert all((i in inside) != char.isspace() for i, char in enumerate(text))
    assert all(a.end <= b.start for a, b in pairwise(words))


def test_long_texts_take_no_long_time(tokenizers):
    text = "北京 " * 200 + "don't... " * 200 + "x" * 5_000
    words = find_words(text)
    code = encode_words(tokenizers["albert"], [text], [words])[0]
    assert len(align(text, [code], words).words) == len(words) == 400 + 200 * 6 + 1


def test_every_kind_of_vocabulary_is_tried():
    assert {FAMILIES[family].kind for family in FAMILY} == {"wordpiece", "bpe", "unigram"}
