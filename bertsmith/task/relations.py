"""Entities and the relations between them, read from one text together: `head/spert`, joint loss, negative samples.

    L = mean cross-entropy of spans + mean binary cross-entropy of pairs

All marked spans and `negatives` others of each text are asked, and of the pairs of marked spans all that are related and
`negative_pairs` others. A relation is said from a probability of `threshold` on. SpERT, Eberts & Ulges 2019, arXiv:1909.07755;
widths, counts and the threshold as in its code.

C documents, L words, W widths, E labels of spans with "none", R relations, N spans that are asked, K others, M pairs.
"""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith import divergence
from bertsmith.coding import Coder, Row
from bertsmith.draw import numpy_rng
from bertsmith.head import head as heads
from bertsmith.labelled.spans import Relation, Span
from bertsmith.metric import metric
from bertsmith.parts import PartOf
from bertsmith.related import Found, Place, Window, by_words, joined, measured, structure, window_of
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.task import Prediction, Task
from bertsmith.wordrows import word_windows, words_of


class Relations(Task):
    """A raw label is (spans, relations): spans as in `task/tagging`, each relation a `Relation` or (number of the head span,
    number of the tail span, label). Spans may overlap. The words of a text are its second text where the data know them.

    Spans are widened to whole words; those of more than `width` words are not learnt, nor relations from one window of a
    long text to another.

    Args:
        relations: their labels; taken from the training examples where none are given.
        most: entities of a text at the most, of which relations are asked.
        stride: tokens that neighbouring windows share.
        seed: what is drawn depends on it and on the number of the row.
    """

    floor = "span_f1"
    paper = "arXiv:1909.07755"
    fields: ClassVar[dict[str, str]] = {"span": "list", "pair": "list"}
    may_be_empty = True

    def __init__(
        self,
        labels: list[str],
        *,
        relations: list[str] = [],  # noqa: B006
        width: int = 10,
        negatives: int = 100,
        negative_pairs: int = 100,
        threshold: float = 0.4,
        most: int = 30,
        stride: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(labels)
        if min(negatives, negative_pairs) < 0 or not 0 < threshold < 1:
            raise ValueError(
                "task/relations: negatives and negative_pairs are at least 0, threshold is between 0 and 1; got "
                f"{negatives}, {negative_pairs}, {threshold}"
            )
        self.relations, self.width, self.negatives, self.negative_pairs = relations, width, negatives, negative_pairs
        self.threshold, self.most, self.stride, self.seed = threshold, most, stride, seed
        self.outputs = 1 + len(labels) + len(relations)

    @property
    def output_names(self) -> list[str]:
        return ["none", *self.labels, *self.relations]

    def head(self) -> Spec:
        settings = {"relations": len(self.relations), "width": self.width, "most": self.most}
        return heads("spert", **settings, fact="word", given="spans")

    def names(self, raw: list[Any]) -> list[str]:
        return sorted({span.label for one in raw for span in structure(one)[0]})

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        found = self.relations or sorted({r.label for one in raw for r in structure(one)[1]})
        if not found:
            raise ValueError("no training example has a relation: where there are only spans, take task/tagging")
        return {"relations": found}

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        found = []
        for i, aligned, codes in word_windows(coder, texts, words_of(texts, pairs), self.stride):
            entities, related = by_words(raw and raw[i], aligned.words, self.labels, self.relations)
            for r, code in enumerate(codes):
                window, asked = window_of(aligned, r), {}
                inside = [w - window.first + 1 if window.first <= w < window.end else 0 for w in aligned.word[r]]
                marks = {"word": torch.tensor(inside)}
                if raw is not None:
                    here = {p: label for p, label in entities.items() if self._fits(p, window)}
                    asked, marks["spans"] = self._asked(here, related, window, len(code))
                found.append(Row(i, [code], asked, marks, window))
        return found

    def _fits(self, place: Place, window: Window) -> bool:
        return window.first <= place[0] and place[1] <= window.end and place[1] - place[0] <= self.width

    def _asked(
        self, here: dict[Place, int], related: dict[tuple[Place, Place], set[int]], window: Window, size: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The fields of one row, and the mark of its entities: bit k at the first token of one of k + 1 words.

        "span": word, width and label of each. "pair": word and width of the head, the number of the tail among all, and a 1
        for each relation that holds, of each two.
        """
        places, marks = sorted(here), torch.zeros(size, dtype=torch.long)
        at = [(a - window.first, b - a - 1) for a, b in places]
        for a, k in at:
            marks[window.tokens[a]] |= 1 << k
        spans = [(*start, here[place]) for start, place in zip(at, places, strict=True)]
        pairs = []
        for start, head in zip(at[: self.most], places, strict=False):
            for number, tail in enumerate(places[: self.most]):
                if head != tail:
                    held = related.get((head, tail), set())
                    pairs.append([*start, number, *(int(r in held) for r in range(len(self.relations)))])
        return {"span": _table(spans, 3), "pair": _table(pairs, 3 + len(self.relations))}, marks

    def ask(self, logits: Tensor, batch: dict[str, Any]) -> tuple[Any, Any]:
        layout, span_N4, pair_MK = batch["layout"], batch["span"].long(), batch["pair"].long()
        word_BT, W = layout.extra["word"], self.width
        L = max(1, int(word_BT.amax()))
        at_BT = torch.where(word_BT > 0, layout.document_BT * L + word_BT - 1, layout.count * L).flatten()
        place = torch.arange(len(at_BT), device=at_BT.device)
        # a token of each word
        token = place.new_full((layout.count * L + 1,), -1).scatter_reduce(0, at_BT, place, "amax")[:-1]
        y_CLF = logits.flatten(0, 1)[token.clamp(min=0)].unflatten(0, (layout.count, L))
        span_CLWE, _, pair_CLWNR = self.split(y_CLF)
        count_C = (token >= 0).view(layout.count, L).sum(1)
        end_LW = torch.arange(L, device=place.device)[:, None] + torch.arange(W, device=place.device)
        free_CLW = end_LW < count_C[:, None, None]
        free_CLW[span_N4[:, 0], span_N4[:, 1], span_N4[:, 2]] = False
        first, other_K3 = int(batch["row"].flatten()[0]), free_CLW.nonzero()
        other_K3 = other_K3[self._drawn(other_K3[:, 0], self.negatives, first, "spans")]
        c_N, a_N, k_N = torch.cat([span_N4[:, :3], other_K3]).T
        label_N = torch.cat([span_N4[:, 3], torch.zeros_like(other_K3[:, 0])])
        related_M = pair_MK[:, 4:].any(1)
        other_M = (~related_M).nonzero()[:, 0]
        other_M = other_M[self._drawn(pair_MK[other_M, 0], self.negative_pairs, first, "pairs")]
        pair_MK = pair_MK[torch.cat([related_M.nonzero()[:, 0], other_M])]
        c_M, a_M, k_M, number_M = pair_MK[:, :4].T
        asked = {"span": span_CLWE[c_N, a_N, k_N], "relation": pair_CLWNR[c_M, a_M, k_M, number_M]}
        return asked, {"span": label_N, "relation": pair_MK[:, 4:].float()}

    def _drawn(self, document_K: Tensor, count: int, first: int, what: str) -> Tensor:
        """Which of K samples are kept, at most `count` of each document; a function of seed and row."""
        documents, kept = document_K.cpu().numpy(), [np.zeros(0, np.int64)]
        for c in np.unique(documents):
            at = np.flatnonzero(documents == c)
            if len(at) > count:
                rng = numpy_rng(self.seed, "task/relations", what, first + int(c))
                at = at[np.sort(rng.choice(len(at), count, replace=False))]
            kept.append(at)
        return torch.from_numpy(np.concatenate(kept)).to(document_K.device)

    def split(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a head gives of words [..., F] as (logits of spans [..., W, E], numbers [..., W], relations [..., W, N, R])."""
        E, R, W = 1 + len(self.labels), len(self.relations), self.width
        rest = y.shape[-1] - W * (E + 1)
        if rest < 0 or rest % (W * R):
            raise ValueError(
                f"task/relations needs a head for spans of up to {W} words, {E} labels and {R} relations, such as "
                f"{self.head().to_dict()}; it was given {y.shape[-1]} numbers a token"
            )
        span, number, pair = y.split([W * E, W, rest], -1)
        return span.unflatten(-1, (W, E)), number, pair.unflatten(-1, (W, rest // (W * R), R))

    def loss(self, logits: Any, target: Any) -> Tensor:
        z, y = logits["span"].float(), target["span"]
        found = F.cross_entropy(z, y, reduction="sum") / max(1, len(y))
        z, y = logits["relation"].float(), target["relation"]
        return found + F.binary_cross_entropy_with_logits(z, y, reduction="sum") / max(1, y.numel())

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        spans = divergence.classes(one["span"], two["span"], target["span"])
        return spans + divergence.coins(one["relation"], two["relation"], target["relation"])

    def part(self, logits: Tensor, row: Row) -> Found:
        """What is found in one row."""
        window: Window = row.note
        span_LWE, number_LW, pair_LWNR = self.split(logits[window.tokens].float())
        p_LWE, p_LWNR = span_LWE.softmax(-1), pair_LWNR.sigmoid()
        spans: dict[Span, float] = {}
        entities: dict[int, tuple[Span, int, int]] = {}
        for w, k in (span_LWE.argmax(-1) > 0).nonzero().tolist():
            start, end = (window.words[window.first + x] for x in (w, w + k))
            label = int(span_LWE[w, k].argmax())
            span = Span(start.start, end.end, self.labels[label - 1])
            spans[span] = float(p_LWE[w, k, label])
            if number := int(number_LW[w, k]):
                entities[number - 1] = span, w, k
        found = {
            (span, entities[n][0], self.relations[r]): float(p_LWNR[w, k, n, r])
            for span, w, k in entities.values()
            for n, r in (p_LWNR[w, k] >= self.threshold).nonzero().tolist()
        }
        return spans, found

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        """The answers as raw labels are written; scores by "3-6 Peop" and "3-6 Peop, Kill, 10-17 Peop"."""
        said = []
        for windows in parts:
            kept, found = joined(windows)
            spans = sorted(kept)
            relations = sorted(Relation(spans.index(a), spans.index(b), label) for a, b, label in found)
            scores = {str(span): kept[span] for span in spans}
            scores |= {f"{a}, {label}, {b}": p for (a, b, label), p in sorted(found.items())}
            said.append(Prediction((spans, relations), scores))
        return said

    def read(self, parts: list[list[Any]]) -> list[dict[str, Any]]:
        said = [joined(windows) for windows in parts]
        return [measured(list(kept), list(found)) for kept, found in said]

    def truth(self, raw: list[Any]) -> list[dict[str, Any]]:
        found = []
        for one in raw:
            spans, relations = structure(one)
            found.append(measured(spans, [(spans[r.head], spans[r.tail], r.label) for r in relations]))
        return found

    def constant(self, raw: list[Any], count: int) -> Any:
        return [measured([], [])] * count

    def metrics(self) -> Scores:
        """Relations count with the labels of their spans ("relation_f1", strict), or with their places alone ("_places")."""
        measured = {
            "relation_f1": ("relations", "f1"),
            "relation_places_f1": ("places", "f1"),
            "span_f1": ("spans", "f1"),
            "relation_precision": ("relations", "precision"),
            "relation_recall": ("relations", "recall"),
        }
        return Scores(
            {name: PartOf(part, metric("span_f1", what=what).build(0)) for name, (part, what) in measured.items()}
        )


def _table(rows: list[Any], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), width)
