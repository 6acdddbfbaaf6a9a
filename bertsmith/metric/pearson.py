"""Pearson correlation, streamed: central moments merged by Chan, Golub and LeVeque 1979, equation 2.1.

As `scipy.stats.pearsonr(predicted, true).statistic`: NaN where either side is constant.
"""

import math

import numpy as np

from bertsmith.metric import Metric


class Pearson(Metric):
    paper = "Chan, Golub and LeVeque 1979, Stanford STAN-CS-79-773"

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.count = 0
        self.mean_2 = np.zeros(2)
        self.moment_22 = np.zeros((2, 2))
        self.low_2, self.high_2 = np.full(2, np.inf), np.full(2, -np.inf)

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        if not len(true):
            return
        x_2N = np.stack([predicted, true]).astype(np.float64)
        n, mean_2 = x_2N.shape[1], x_2N.mean(axis=1)
        off_2N = x_2N - mean_2[:, None]
        step_2, total = mean_2 - self.mean_2, self.count + n
        self.moment_22 += off_2N @ off_2N.T + np.outer(step_2, step_2) * (self.count * n / total)
        self.mean_2 += step_2 * (n / total)
        self.count = total
        self.low_2, self.high_2 = np.minimum(self.low_2, x_2N.min(axis=1)), np.maximum(self.high_2, x_2N.max(axis=1))

    def value(self) -> float:
        if self.count < 2 or (self.low_2 == self.high_2).any():
            return float("nan")
        a, b = math.sqrt(self.moment_22[0, 0]), math.sqrt(self.moment_22[1, 1])
        return max(-1.0, min(1.0, float(self.moment_22[0, 1] / a / b))) if a and b else float("nan")
