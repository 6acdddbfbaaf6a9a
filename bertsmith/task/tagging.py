"""Labelled spans in a text (names, terms, slots), as a tag on the first token of every word.

BERT, Devlin et al. 2018, arXiv:1810.04805, section 5.3: the first piece of a word is asked, the others are not. Tag schemes:
`bertsmith.tags`. With `head/crf` the tags of a text are a chain: Lample et al. 2016, arXiv:1603.01360.

B rows of the batch, T places, K tags.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith import chain
from bertsmith.align import Aligned
from bertsmith.coding import Coder, Row
from bertsmith.head import head as heads
from bertsmith.labelled.spans import Span
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.tags import disjoint, snap, tag_names, to_spans, to_tags
from bertsmith.task import Prediction, Task
from bertsmith.wordrows import first_tokens, spans_of, word_bytes, word_windows, words_of


class Tagging(Task):
    """A raw label is the list of a text's spans: `Span`, (start, end, label), or {"start", "end", "label"}; characters.

    The words are the second text of an example where the data know them, as spans; else those of a plain rule. Spans are
    widened to whole words; of two that overlap the longer is learnt. Texts longer than a row are cut into windows.

    Args:
        scheme: "io", "bio", "bilou", or "word" (every word is a span: parts of speech).
        tags: the names of the outputs, where a checkpoint has them in an order of its own, or not all.
        stride: tokens that neighbouring windows share.
        characters: bytes of each word, at the most, that the head is shown (`head/char_cnn`); 0: none.
    """

    floor = "span_f1"
    paper = "arXiv:1810.04805"
    fields: ClassVar[dict[str, str]] = {"target": "token"}
    may_be_empty = True

    def __init__(
        self,
        labels: list[str],
        *,
        scheme: str = "bio",
        tags: list[str] = [],  # noqa: B006
        stride: int = 32,
        characters: int = 0,
    ) -> None:
        super().__init__(labels)
        usual = tag_names(labels, scheme)
        if set(tags) - set(usual):
            raise ValueError(f"tags={tags} are not those of the scheme {scheme} over {labels}: {usual}")
        self.scheme, self.tags, self.stride, self.characters = scheme, tags or usual, stride, characters
        self.number = {name: i for i, name in enumerate(self.tags)}
        self.outputs = len(self.tags)

    @property
    def output_names(self) -> list[str]:
        return self.tags

    def head(self) -> Spec:
        return heads("token")

    def names(self, raw: list[Any]) -> list[str]:
        return sorted({span.label for one in raw for span in spans_of(one)})

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        found = []
        for i, aligned, codes in word_windows(coder, texts, words_of(texts, pairs), self.stride):
            target = None if raw is None else aligned.spread(self.numbers(raw[i], aligned.words))
            for r, one in enumerate(codes):
                marks = {"first": first_tokens(aligned, r)}
                if self.characters:
                    marks["characters"] = word_bytes(texts[i], aligned, r, self.characters)
                asked = {} if target is None else {"target": torch.tensor(target[r])}
                found.append(Row(i, [one], asked, marks, (aligned, r)))
        return found

    def numbers(self, raw: Any, words: list[Span]) -> list[int]:
        """The numbers of the tags of words. Raises ValueError for a label that is not known."""
        spans = [span for span in snap(spans_of(raw), words) if span is not None]
        if unknown := sorted({span.label for span in spans} - set(self.labels)):
            raise ValueError(
                f"no label {', '.join(map(repr, unknown))}; there are: {', '.join(map(repr, self.labels))}"
            )
        tags = to_tags(disjoint(spans)[0], words, self.scheme)
        if lost := sorted(set(tags) - set(self.number)):
            raise ValueError(f"the head has no output for {', '.join(lost)}; it has: {', '.join(self.tags)}")
        return [self.number[tag] for tag in tags]

    def ask(self, logits: Tensor, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        target_BT = batch["target"]
        if logits.dim() == 4:  # scores of pairs of tags: the row is one chain
            return logits, target_BT
        asked = (target_BT >= 0).flatten().nonzero()[:, 0]
        return logits.flatten(0, 1).index_select(0, asked), target_BT.flatten().index_select(0, asked)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.dim() == 4:
            return chain.loss(logits, target)
        return F.cross_entropy(logits.float(), target, reduction="sum") / max(1, len(target))

    def part(self, logits: Tensor, row: Row) -> tuple[Aligned, int, list[int]]:
        """(words of the text, number of the window, the number of the tag at each of its tokens)."""
        tag_T = chain.viterbi(logits[None])[0] if logits.dim() == 3 else logits.argmax(-1)
        return *row.note, tag_T.tolist()

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        return [Prediction(spans) for spans in self.read(parts)]

    def read(self, parts: list[list[Any]]) -> list[list[Span]]:
        found = []
        for windows in parts:
            aligned = windows[0][0]
            tags = [self.tags[k] for k in aligned.gather([tag_T for _, _, tag_T in windows])]
            found.append(to_spans(tags, aligned.words, self.scheme))
        return found

    def truth(self, raw: list[Any]) -> list[list[Span]]:
        return [spans_of(one) for one in raw]

    def constant(self, raw: list[Any], count: int) -> Any:
        return [[] for _ in range(count)]

    def metrics(self) -> Scores:
        measures = {"span_f1": "f1", "precision": "precision", "recall": "recall"}
        return Scores({name: metric("span_f1", what=what).build(0) for name, what in measures.items()})
