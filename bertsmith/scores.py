"""The metrics of a task over a stream of batches."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from bertsmith.metric import Metric


class Scores:
    """Add batches, then read all metrics at once.

    metrics: name -> metric; the first is the one by which epochs are chosen.
    predicted, true: how the task reads logits and targets (arrays as `Metric.add` takes them).
    """

    def __init__(
        self,
        metrics: dict[str, Metric],
        predicted: Callable[[Tensor], np.ndarray],
        true: Callable[[Tensor], np.ndarray],
    ) -> None:
        self.metrics, self.predicted, self.true = metrics, predicted, true
        self.main = next(iter(metrics))
        self.count = 0
        self.answers: set[bytes] = set()  # at most two of the different predictions: enough to tell a constant

    def add(self, logits: Tensor, target: Tensor) -> None:
        """logits as the head gives them, target as `task.encode` makes it; one row an example."""
        self.add_read(self.predicted(logits), self.true(target))

    def add_read(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """The same for predictions that come from something other than a head (baselines)."""
        if len(predicted) != len(true):
            raise ValueError(f"{len(predicted)} predictions for {len(true)} examples")
        for metric in self.metrics.values():
            metric.add(predicted, true)
        self.count += len(true)
        if len(self.answers) < 2:
            self.answers |= {row.tobytes() for row in np.unique(predicted, axis=0)[:2]}

    @property
    def constant(self) -> bool:
        """Whether every prediction so far was the same."""
        return len(self.answers) == 1

    def value(self) -> dict[str, float | None]:
        """Metric name -> value, None where it is not defined (a correlation with a constant): plain JSON."""
        values = {name: metric.value() for name, metric in self.metrics.items()}
        return {name: None if np.isnan(value) else value for name, value in values.items()}

    def better(self, new: float | None, old: float | None, name: str = "") -> bool:
        """Whether `new` beats `old` in a metric (by default the main one); a number beats None, a tie beats nothing."""
        if new is None or old is None:
            return new is not None and old is None
        return new < old if self.metrics[name or self.main].lower else new > old
