"""Micro-averaged F1 (Yang and Liu 1999): 2 TP / (2 TP + FP + FN) over all labels; 0 where nothing occurs.

As `sklearn.metrics.f1_score(average="micro", zero_division=0)`.
"""

import numpy as np

from bertsmith.metric import Metric


class MicroF1(Metric):
    paper = "Yang and Liu 1999, doi:10.1145/312624.312647"

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.hit = self.of = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        if true.ndim == 2:
            self.hit += int((predicted & true).sum())
            self.of += int(predicted.sum() + true.sum())
        else:
            self.hit += int((predicted == true).sum())
            self.of += 2 * len(true)

    def value(self) -> float:
        return 2 * self.hit / self.of if self.of else 0.0
