"""Spearman's rank correlation (Spearman 1904), ties at their mean rank.

As `scipy.stats.spearmanr`: NaN where either side is constant.

Ranks need all values: one float64 a side and example is kept.
"""

import numpy as np

from bertsmith.metric import Metric


class Spearman(Metric):
    paper = "Spearman 1904, doi:10.2307/1412159"

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.kept: list[np.ndarray] = []

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        self.kept.append(np.stack([predicted, true]).astype(np.float64))

    def value(self) -> float:
        from scipy.stats import rankdata

        x_2N = np.concatenate(self.kept, axis=1) if self.kept else np.zeros((2, 0))
        if x_2N.shape[1] < 2 or (x_2N.min(axis=1) == x_2N.max(axis=1)).any():
            return float("nan")
        return float(np.corrcoef(rankdata(x_2N, axis=1))[0, 1])
