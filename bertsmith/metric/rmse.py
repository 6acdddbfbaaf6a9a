"""Root mean squared error, in the unit of the target; lower is better. `sklearn.metrics.root_mean_squared_error`."""

import math

import numpy as np

from bertsmith.metric import Metric


class RMSE(Metric):
    paper = "scikit-learn, metrics.root_mean_squared_error"
    lower = True

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.square, self.count = 0.0, 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        self.square += float(((predicted.astype(np.float64) - true) ** 2).sum())
        self.count += len(true)

    def value(self) -> float:
        return math.sqrt(self.square / self.count) if self.count else float("nan")
