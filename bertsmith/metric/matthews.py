"""Matthews correlation of K classes (Gorodkin 2004, equation 8), from the confusion counts C[true, predicted].

With t_k examples of class k, p_k predictions of it, c right of s: (c s - sum t_k p_k) / sqrt((s^2 - sum p_k^2)(s^2
- sum t_k^2)). As `sklearn.metrics.matthews_corrcoef`: 0 where truths or predictions are all one class. GLUE reports
it for CoLA.
"""

import math

import numpy as np

from bertsmith.metric import Metric


class Matthews(Metric):
    paper = "Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006"

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.said, self.true = (np.zeros(labels, np.int64) for _ in range(2))
        self.right = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        self.said += np.bincount(predicted, minlength=self.labels)
        self.true += np.bincount(true, minlength=self.labels)
        self.right += int((predicted == true).sum())

    def value(self) -> float:
        said, true = [int(n) for n in self.said], [int(n) for n in self.true]
        s = sum(true)
        below = (s * s - sum(p * p for p in said)) * (s * s - sum(t * t for t in true))
        if s == 0:
            return float("nan")
        return (
            (self.right * s - sum(p * t for p, t in zip(said, true, strict=True))) / math.sqrt(below) if below else 0.0
        )
