"""Spans of a text and the relations between them: as labels are written, by the words they cover, and put together again.

What is found is ({span: probability}, {(head, tail, label): probability}).
"""

from typing import Any, NamedTuple

from bertsmith.align import Aligned
from bertsmith.labelled.spans import Relation, Span
from bertsmith.tags import snap
from bertsmith.wordrows import spans_of

Place = tuple[int, int]  # the words [a, b)
Triple = tuple[Span, Span, str]
Found = tuple[dict[Span, float], dict[Triple, float]]


class Window(NamedTuple):
    """The words of a text that begin in one of its rows: `tokens[w]` begins the word `first + w`."""

    words: list[Span]
    first: int
    tokens: list[int]

    @property
    def end(self) -> int:
        """The first word behind them."""
        return self.first + len(self.tokens)


def window_of(aligned: Aligned, row: int) -> Window:
    """The words of one row of a text."""
    tokens = [t for t, w in enumerate(aligned.begins[row]) if w >= 0]
    return Window(aligned.words, aligned.begins[row][tokens[0]] if tokens else 0, tokens)


def structure(raw: Any) -> tuple[list[Span], list[Relation]]:
    """A raw label's spans and relations. ValueError for what is none, and for a relation between spans that are not there."""
    if raw is None:
        return [], []
    if not isinstance(raw, tuple | list) or len(raw) != 2:
        raise ValueError(f"entities with relations are (spans, relations); got {raw!r:.80}")
    spans, relations = spans_of(raw[0]), []
    for one in raw[1] or []:
        try:
            head, tail, label = (one.head, one.tail, one.label) if isinstance(one, Relation) else one
            head, tail = int(head), int(tail)
        except (TypeError, ValueError):
            raise ValueError(f"a relation is (number of a span, number of a span, label); got {one!r:.80}") from None
        if min(head, tail) < 0 or max(head, tail) >= len(spans):
            raise ValueError(f"relation {one!r:.80} names a span that is not there: the text has {len(spans)}, from 0")
        relations.append(Relation(head, tail, str(label)))
    return spans, relations


def by_words(
    raw: Any, words: list[Span], labels: list[str], relations: list[str]
) -> tuple[dict[Place, int], dict[tuple[Place, Place], set[int]]]:
    """(the number of the label of each span, from 1; the numbers of the relations of each two), spans as the words they cover.

    ValueError, listing what there is, for a label that is not known.
    """
    spans, held = structure(raw)
    for said, known in (({one.label for one in spans}, labels), ({one.label for one in held}, relations)):
        if unknown := sorted(said - set(known)):
            raise ValueError(f"no label {', '.join(map(repr, unknown))}; there are: {', '.join(map(repr, known))}")
    first, last = {w.start: i for i, w in enumerate(words)}, {w.end: i for i, w in enumerate(words)}
    wide = [None if one is None else (first[one.start], last[one.end] + 1) for one in snap(spans, words)]
    entities: dict[Place, int] = {}
    for span, place in zip(spans, wide, strict=True):
        if place is not None:
            entities.setdefault(place, 1 + labels.index(span.label))
    related: dict[tuple[Place, Place], set[int]] = {}
    for one in held:
        head, tail = wide[one.head], wide[one.tail]
        if head is not None and tail is not None:
            related.setdefault((head, tail), set()).add(relations.index(one.label))
    return entities, related


def joined(windows: list[Found]) -> Found:
    """What all windows of a text say: at each place the surest label, and relations between what is left."""
    best: dict[Place, tuple[float, Span]] = {}
    for spans, _ in windows:
        for span, p in spans.items():
            best[span.start, span.end] = max(best.get((span.start, span.end), (0.0, span)), (p, span))
    kept = {span: p for p, span in best.values()}
    found: dict[Triple, float] = {}
    for _, relations in windows:
        for one, p in relations.items():
            if one[0] in kept and one[1] in kept:
                found[one] = max(p, found.get(one, 0.0))
    return kept, found


def measured(spans: list[Span], relations: list[Triple]) -> dict[str, Any]:
    """What metrics are given of a text: spans, relations with the labels of theirs, and with their places alone."""
    places = [((a.start, a.end), (b.start, b.end), label) for a, b, label in relations]
    return {"spans": spans, "relations": relations, "places": places}
