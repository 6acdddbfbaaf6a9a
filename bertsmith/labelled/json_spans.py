"""JSON with texts and spans: one object a line, or a list of objects; characters, or SpERT's word numbers.

With a text, spans are objects (start, end, label under their usual names) or lists [start, end, label]; with words
("tokens") they are word numbers, or tags, one a word. Relations name two spans by their numbers in the list.
SpERT: Eberts and Ulges 2020, arXiv:1909.07755. Which keys were taken is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertsmith.labelled.source import json_records
from bertsmith.labelled.spans import Labelled, Relation, Span, checked, join_words, ordered
from bertsmith.table import Say, aloud
from bertsmith.tags import guess_scheme, repaired, to_spans

TEXT = ("text", "sentence", "content", "document", "context", "data")
WORDS = ("tokens", "words")
SPANS = ("spans", "entities", "labels", "label", "annotations", "mentions", "ner")
TAGS = ("tags", "ner_tags", "labels", "ner", "pos_tags", "upos", "pos", "chunk_tags")
START = ("start", "begin", "start_offset", "start_char", "from")
END = ("end", "stop", "end_offset", "end_char", "to")
LABEL = ("label", "type", "entity_type", "entity_group", "entity", "tag", "class", "category", "labels")
SURFACE = ("text", "word", "surface", "mention")
RELATION = ("label", "type", "relation", "relation_type")

Records = list[tuple[str, dict[str, Any]]]


def read_json_spans(
    path: str | Path, *, spans: str = "", inclusive: bool = False, encoding: str = "utf-8", say: Say = aloud
) -> Labelled:
    """Texts with spans, and relations if the records have any.

    Args:
        spans: the key of the spans or tags; "" takes the usual names, in the order of this file.
        inclusive: an end is the last character (or word) of a span, not the one behind it.

    Records that have no such key have no spans, and are counted aloud. All keys but those that were taken are columns of
    `extra`.

    Raises:
        FileNotFoundError, or ValueError naming the line: not JSON, no text, places outside the text, or a span whose text
        is not what the file says it is.
    """
    records = [(where, _record(where, raw)) for where, raw in json_records(path, encoding)]
    return read_records(records, str(path), spans=spans, inclusive=inclusive, say=say)


def read_records(
    records: Records, name: str, *, spans: str = "", inclusive: bool = False, say: Say = aloud
) -> Labelled:
    """The same of records that have been read; with each goes where it stands, for messages."""
    if not records:
        raise ValueError(f"{name} holds no records")
    keys = list(dict.fromkeys(key for _, record in records for key in record))
    text, words = _named(keys, TEXT), _named(keys, WORDS)
    if not (text or words):
        raise ValueError(f"{name}: no text under {', '.join(TEXT)} and no words under {', '.join(WORDS)}; keys: {keys}")
    if spans and spans not in keys:
        raise ValueError(f"{name} has no key {spans!r}; it has: {', '.join(keys)}")
    found = spans or _holding(records, SPANS, dict | list)
    tagged = "" if found or text else _holding(records, TAGS, str)
    if spans and not text and spans == _holding(records, (spans,), str):
        found, tagged = "", spans
    if not (found or tagged):
        raise ValueError(f"{name}: no spans under {', '.join(SPANS)} and no tags under {', '.join(TAGS)}; keys: {keys}")
    related = "relations" if any(record.get("relations") for _, record in records) else ""
    source = text or words
    say(
        f"{name}: {len(records)} texts; {'text' if text else 'words'} under {source!r}, "
        f"{'tags' if tagged else 'spans'} under {tagged or found!r}{', relations' if related else ''}"
    )
    scheme = guess_scheme(record.get(tagged) or [] for _, record in records) if tagged else ""
    reader = _Reader(text, words, found, tagged, related, scheme, inclusive)
    for where, record in records:
        reader.take(where, record)
    reader.tell(name, say)
    used = {source, found, tagged, related}
    extra = {key: [record.get(key) for _, record in records] for key in keys if key not in used}
    relations = reader.relations if related else None
    return Labelled(reader.text, reader.spans, relations, None if text else reader.words, extra)


class _Reader:
    """What was read so far."""

    def __init__(
        self, text: str, words: str, spans: str, tags: str, relations: str, scheme: str, inclusive: bool
    ) -> None:
        self.keys = text, words, spans, tags, relations
        self.scheme, self.last = scheme, int(inclusive)
        self.text: list[str] = []
        self.spans: list[list[Span]] = []
        self.words: list[list[Span]] = []
        self.relations: list[list[Relation]] = []
        self.unlabelled = self.trimmed = self.broken = 0

    def take(self, where: str, record: dict[str, Any]) -> None:
        text_key, words_key, spans_key, tags_key, relations_key = self.keys
        raw = record.get(tags_key or spans_key)
        self.unlabelled += raw is None
        if text_key:
            text = record.get(text_key)
            if not isinstance(text, str):
                raise ValueError(f"{where}: no text under {text_key!r}, but {type(text).__name__}")
            spans = [self._of_characters(where, one, text) for one in self._listed(where, raw)]
        else:
            words = record.get(words_key)
            if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
                raise ValueError(f"{where}: no list of words under {words_key!r}")
            text, places = join_words(words)
            self.words.append(places)
            if tags_key:
                spans = self._of_tags(where, raw or [], places)
            else:
                spans = [self._of_words(where, one, places) for one in self._listed(where, raw)]
        inner = checked(text, spans, where)
        self.trimmed += sum(a != b for a, b in zip(spans, inner, strict=True))
        relations = self._related(where, record.get(relations_key) or [], len(inner)) if relations_key else []
        in_order, related = ordered(inner, relations)
        self.text.append(text)
        self.spans.append(in_order)
        self.relations.append(related)

    def tell(self, name: str, say: Say) -> None:
        if self.unlabelled:
            say(f"{name}: {self.unlabelled} of {len(self.text)} texts name no spans and are taken to have none")
        if self.trimmed:
            say(f"{name}: {self.trimmed} spans began or ended with white space, which is cut off")
        if self.broken:
            say(f"{name}: {self.broken} tags do not follow from the one before them and are repaired")

    def _listed(self, where: str, raw: Any) -> list[Any]:
        if raw is None:
            return []
        if isinstance(raw, dict):  # {"entities": [...]} as spaCy has it
            raw = _value(raw, SPANS)
        if not isinstance(raw, list):
            raise ValueError(f"{where}: spans must be a list, not {type(raw).__name__}")
        return raw

    def _ends(self, where: str, one: Any) -> tuple[int, int, str]:
        """(start, end, label) of a span, as the file has it."""
        if isinstance(one, list | tuple) and len(one) == 3:
            start, end, label = one
        elif isinstance(one, dict):
            start, end, label = (_value(one, names) for names in (START, END, LABEL))
        else:
            raise ValueError(f"{where}: a span is [start, end, label] or an object with these; got {one!r:.60}")
        if isinstance(label, list) and len(label) == 1:
            label = label[0]
        whole = all(isinstance(x, int) and not isinstance(x, bool) for x in (start, end))
        if not whole or isinstance(label, dict | list):
            raise ValueError(f"{where}: a span needs whole numbers for start and end and one label; got {one!r:.80}")
        return start, end + self.last, "" if label is None else str(label)

    def _of_characters(self, where: str, one: Any, text: str) -> Span:
        span = Span(*self._ends(where, one))
        said = _value(one, SURFACE) if isinstance(one, dict) else None
        stands = text[max(span.start, 0) : max(span.end, 0)]
        if isinstance(said, str) and said.strip() != stands.strip():
            raise ValueError(
                f"{where}: span {span} is {stands!r} in the text, and {said!r} in the file: places must count characters "
                "(not bytes), and an end is exclusive unless inclusive=True"
            )
        return span

    def _of_words(self, where: str, one: Any, places: list[Span]) -> Span:
        start, end, label = self._ends(where, one)
        if not 0 <= start < end <= len(places):
            raise ValueError(f"{where}: words {start} to {end} are no span of a text of {len(places)} words")
        return Span(places[start].start, places[end - 1].end, label)

    def _of_tags(self, where: str, tags: list[str], places: list[Span]) -> list[Span]:
        if tags and len(tags) != len(places):
            raise ValueError(f"{where}: {len(places)} words, but {len(tags)} tags")
        try:
            self.broken += len(repaired(tags, self.scheme))
            return to_spans(tags, places[: len(tags)], self.scheme)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def _related(self, where: str, raw: list[Any], count: int) -> list[Relation]:
        found = []
        for one in raw:
            head, tail = (one.get("head"), one.get("tail")) if isinstance(one, dict) else (None, None)
            if not (
                isinstance(head, int) and isinstance(tail, int) and 0 <= min(head, tail) <= max(head, tail) < count
            ):
                raise ValueError(
                    f"{where}: a relation needs head and tail, numbers of its {count} spans; got {one!r:.80}"
                )
            found.append(Relation(head, tail, str(_value(one, RELATION) or "")))
        return found


def _record(where: str, raw: Any) -> dict[str, Any]:
    """A record as an object; [text, {"entities": ...}] is taken too."""
    if isinstance(raw, list) and len(raw) == 2 and isinstance(raw[0], str) and isinstance(raw[1], dict):
        return {"text": raw[0], **raw[1]}
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is no object with a text and spans, but {type(raw).__name__}")
    return raw


def _named(keys: Sequence[str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in keys), "")


def _holding(records: Records, names: tuple[str, ...], kind: Any) -> str:
    """The first of the keys under which a list of such things stands (or an object with one); "" if there is none."""
    for name in names:
        values = [record[name] for _, record in records if record.get(name)]
        first = next(iter(values), None)
        if isinstance(first, dict) and kind is not str:
            return name
        if isinstance(first, list) and isinstance(first[0], kind):
            return name
    if kind is str:
        return ""
    # a key whose lists are all empty still says that there are no spans
    columns = {name: [record.get(name) for _, record in records] for name in names}
    return next((name for name, cells in columns.items() if [] in cells and not any(cells)), "")


def _value(one: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((one[name] for name in names if name in one), None)
