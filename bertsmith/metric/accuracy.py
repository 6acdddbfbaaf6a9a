"""Accuracy: the share of examples whose predicted class is the true one. `sklearn.metrics.accuracy_score`."""

import numpy as np

from bertsmith.metric import Metric


class Accuracy(Metric):
    """Over class numbers, or over label sets, where every label of the example must be right (subset accuracy)."""

    paper = "scikit-learn, metrics.accuracy_score"

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.right = self.count = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        same = predicted == true
        self.right += int(same.sum() if same.ndim == 1 else same.all(axis=1).sum())
        self.count += len(true)

    def value(self) -> float:
        return self.right / self.count if self.count else float("nan")
