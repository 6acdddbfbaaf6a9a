"""Macro-averaged F1 (Van Rijsbergen 1979; Yang and Liu 1999): the mean over classes of 2 TP / (2 TP + FP + FN).

As `sklearn.metrics.f1_score(average="macro", zero_division=0)`: for class numbers, over the classes that occur
among truths or predictions; for label sets, over all labels, one that never occurs counting 0.
"""

import numpy as np

from bertsmith.metric import Metric


class MacroF1(Metric):
    paper = "Yang and Liu 1999, doi:10.1145/312624.312647"

    def __init__(self, labels: int) -> None:
        super().__init__(labels)
        self.hit, self.said, self.true = (np.zeros(labels, np.int64) for _ in range(3))
        self.sets = False

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        if true.ndim == 2:
            self.sets = True
            self.hit += (predicted & true).sum(axis=0)
            self.said += predicted.sum(axis=0)
            self.true += true.sum(axis=0)
        else:
            self.hit += np.bincount(true[predicted == true], minlength=self.labels)
            self.said += np.bincount(predicted, minlength=self.labels)
            self.true += np.bincount(true, minlength=self.labels)

    def value(self) -> float:
        of = self.said + self.true
        f1 = 2 * self.hit / np.maximum(of, 1)
        counted = f1 if self.sets else f1[of > 0]
        return float(counted.mean()) if len(counted) else float("nan")
