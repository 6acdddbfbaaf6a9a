"""F1 of one class (Van Rijsbergen 1979): 2 TP / (2 TP + FP + FN), 0 where the class neither occurs nor is predicted.

As `sklearn.metrics.f1_score(average="binary", zero_division=0)`; GLUE reports it of class 1 of MRPC and QQP.
"""

import numpy as np

from bertsmith.metric import Metric


class F1(Metric):
    """positive: the number of the class that is looked for."""

    paper = "Van Rijsbergen 1979, Information Retrieval, chapter 7"

    def __init__(self, labels: int, *, positive: int = 1) -> None:
        super().__init__(labels)
        self.positive = positive
        self.hit = self.of = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        said, is_true = predicted == self.positive, true == self.positive
        self.hit += int((said & is_true).sum())
        self.of += int(said.sum() + is_true.sum())

    def value(self) -> float:
        return 2 * self.hit / self.of if self.of else 0.0
