"""What is asked of a text: the label space, the loss, how logits are read, and what is measured."""

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from bertsmith.scores import Scores
from bertsmith.spec import Slot


class Task:
    """From raw labels to targets, and from logits to answers.

    Args:
        labels: a name for each output of the head: the labels, or for a number one name of what it is. Empty where
        only `names` is asked.

    Attributes:
        outputs: how many logits a head must give for each example.
        floor: the metric in which a model must beat the best constant answer.
    """

    paper: ClassVar[str] = ""
    floor: ClassVar[str] = ""

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels
        self.outputs = len(labels)

    def names(self, raw: list[Any]) -> list[str]:
        """The label space that raw labels span, in the order in which a head gets them. `self.labels` is not read."""
        raise NotImplementedError

    def encode(self, raw: list[Any]) -> Tensor:
        """Targets, one row for each raw label. ValueError, listing the labels there are, for one that is unknown."""
        raise NotImplementedError

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar; logits [N, outputs]."""
        raise NotImplementedError

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

    def metrics(self) -> Scores:
        """An empty set of this task's metrics."""
        raise NotImplementedError


task = Slot(__name__, Task)
