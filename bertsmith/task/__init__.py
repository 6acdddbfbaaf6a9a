"""What is asked of a text: its rows, the label space, the loss, how logits are read, and what is measured."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bertsmith import divergence
from bertsmith.coding import Coder, Row
from bertsmith.head import head as heads
from bertsmith.pool import pool as pools
from bertsmith.scores import Scores
from bertsmith.spec import Slot, Spec


@dataclass(frozen=True)
class Prediction:
    """An answer, and the score of every label (a probability each; a number for regression has none)."""

    label: Any
    scores: dict[str, float] = field(default_factory=dict)


class Task:
    """From raw labels to targets, and from logits to answers.

    An example (a text, or a text and a second one) becomes one row of tokens, or several; `rows` says which. A head gives
    logits for rows, `ask` picks of them what the loss is about, `part` what is kept of one row, and the parts of an example's
    rows make its answer. The defaults here are those of a task with one row a text and one target a row.

    Args:
        labels: a name for each output of the head: the labels, or for a number one name of what it is. Empty where
        only `names` is asked.

    Attributes:
        outputs: how many logits a head must give for each example (or token).
        floor: the metric in which a model must beat the best constant answer.
        fields: what a row is asked, by name: "row" (one tensor a row), "token" (one number a token, or several, -100
            where nothing is asked) or "list" (any number of rows [M, k], to which the row's number in the batch is prepended).
        may_be_empty: an example without a label has the answer "none of them"; else it is left out.
        fewest: labels from which there is something to learn.
        scheme: how a raw label, spans of the text, is a tag for every word (see `tags`); "" where it is not.
    """

    paper: ClassVar[str] = ""
    floor: str = ""
    fields: dict[str, str] = {"target": "row"}
    may_be_empty: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    scheme: str = ""

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels
        self.outputs = len(labels)

    @property
    def output_names(self) -> list[str]:
        """What each output of a head is called where a head is stored."""
        return self.labels

    def head(self) -> Spec:
        """The head that it takes where none is named."""
        return heads("linear", pool=pools("bert"))

    def names(self, raw: list[Any]) -> list[str]:
        """The label space that raw labels span, in the order in which a head gets them. `self.labels` is not read."""
        raise NotImplementedError

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        """Settings of this task that are read off the training labels (the mean of what is predicted)."""
        return {}

    def starts(self, raw: list[Any]) -> Tensor | None:
        """float32 [outputs]: where the biases of a linear head's outputs start, from the training labels; None: at 0."""
        return None

    def chosen(self, parts: list[list[Any]], raw: list[Any]) -> dict[str, Any]:
        """Settings of this task that are chosen on the validation split, from what is kept of its rows (a threshold)."""
        return {}

    def strata(self, raw: list[Any]) -> list[str] | None:
        """A class for each example to keep in proportion where splits are cut, or None."""
        return None

    def encode(self, raw: list[Any]) -> Tensor:
        """Targets, one row for each raw label. ValueError, listing the labels there are, for one that is unknown."""
        raise NotImplementedError

    def rows(self, coder: Coder, texts: list[str], pairs: list[Any] | None, raw: list[Any] | None) -> list[Row]:
        """The rows of examples, in order; with targets if raw labels are given."""
        coded = coder.documents(texts, pairs)
        if raw is None:
            return [Row(i, codes) for i, codes in enumerate(coded)]
        target = self.encode(raw)
        return [Row(i, codes, {"target": target[i]}) for i, codes in enumerate(coded)]

    def ask(self, logits: Tensor, batch: dict[str, Any]) -> tuple[Any, Any]:
        """(logits [N, K], target) of all that a batch asks; a batch holds the fields by name.

        A task that asks several things gives a dict of such tensors and one of their targets, with the same names.
        """
        return logits, batch["target"]

    def loss(self, logits: Any, target: Any) -> Tensor:
        """The mean loss of a batch, a scalar, in fp32; logits and target as `ask` gives them."""
        raise NotImplementedError

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        """KL(P || Q) of two predictions, a scalar, the mean over what is asked; logits and target as `ask` gives them. Here:
        of classes."""
        return divergence.classes(one, two, target)

    def part(self, logits: Tensor, row: Row) -> Any:
        """What is kept of one row: its logits [1, K] (a document each) or [tokens, K]."""
        return logits[0]

    def decode(self, logits: Tensor) -> list[Any]:
        """The answers, as raw labels are written; logits [N, outputs]."""
        raise NotImplementedError

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """A probability for each label, float32 [N, labels]; [N, 0] where the answer is a number."""
        raise NotImplementedError

    def predicted(self, logits: Tensor) -> np.ndarray:
        """The answers as metrics take them."""
        raise NotImplementedError

    def true(self, target: Tensor) -> np.ndarray:
        """The truths as metrics take them."""
        raise NotImplementedError

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        """What is said to the user, an answer an example, from the parts of its rows."""
        logits = torch.stack([p[0] for p in parts])
        score_NL = self.probabilities(logits)
        return [
            Prediction(label, dict(zip(self.labels, map(float, row), strict=False)))
            for label, row in zip(self.decode(logits), score_NL, strict=True)
        ]

    def read(self, parts: list[list[Any]]) -> Any:
        """What is said of some examples, as the metrics take it."""
        return self.predicted(torch.stack([p[0] for p in parts]))

    def truth(self, raw: list[Any]) -> Any:
        """What is true of some examples, as the metrics take it."""
        return self.true(self.encode(raw))

    def constant(self, raw: list[Any], count: int) -> Any:
        """The best constant answer by the training labels, `count` times, as the metrics take it: the commonest label, each
        label's commoner value, or the mean."""
        y = self.true(self.encode(raw))
        if y.dtype.kind == "f":
            answer = np.nanmean(y, axis=0)
        else:
            answer = y.mean(axis=0) > 0.5 if y.ndim == 2 else np.bincount(y).argmax()
        return np.repeat(np.asarray(answer)[None], count, axis=0)

    def metrics(self) -> Scores:
        """An empty set of this task's metrics."""
        raise NotImplementedError


def label_weights(kind: str, labels: list[str], weights: dict[str, float] | str) -> Tensor | None:
    """float32 [labels] of weights by name, 1 for those not named; None if there are none, or not yet ("balanced").

    Raises ValueError for other words, labels that there are not, and weights that are not above 0.
    """
    if isinstance(weights, str):
        if weights != "balanced" or labels:
            raise ValueError(
                f"task/{kind}: weights are {{label: number}}, or 'balanced', which `finetune` turns into numbers by the "
                f"training labels; got {weights!r}"
            )
        return None
    if labels and (unknown := sorted(set(weights) - set(labels))):
        raise ValueError(
            f"task/{kind}: weights of {', '.join(map(repr, unknown[:5]))}; there are: {', '.join(map(repr, labels))}"
        )
    if odd := {name: w for name, w in weights.items() if not w > 0}:
        raise ValueError(f"task/{kind}: weights are above 0; got {odd}")
    return torch.tensor([float(weights.get(name, 1.0)) for name in labels]) if weights else None


task = Slot(__name__, Task)
