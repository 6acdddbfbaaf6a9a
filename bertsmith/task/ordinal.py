"""Labels with an order (stars, grades): K - 1 questions "is it more than label k?", each a sigmoid.

    P(y > k) = sigmoid(z_k),  loss = the mean of the K - 1 binary cross-entropies,  answer = the number of k with P(y > k) > 1/2
    counted from below up to the first that fails

Cheng, Wang & Pollastri 2008, A neural network approach to ordinal regression, arXiv:0704.1028, section 3.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith import divergence
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.task import Task
from bertsmith.task import task as tasks


class Ordinal(Task):
    """Targets float32 [N, K - 1] of 1s then 0s.

    order: the labels from the least to the most; by default whole numbers by size, other names by letter.
    """

    floor = "mae"
    fewest = 2
    paper = "arXiv:0704.1028"

    def __init__(self, labels: list[str], *, order: list[str] = []) -> None:  # noqa: B006
        super().__init__(labels)
        self.order, self.outputs = order, len(labels) - 1
        self.plain = tasks("single_label").build(labels)

    def names(self, raw: list[Any]) -> list[str]:
        found = self.plain.names(raw)
        if self.order and (odd := sorted(set(found) - set(self.order))):
            raise ValueError(f"task/ordinal: {', '.join(map(repr, odd[:5]))} not in order={self.order}")
        return self.order or found

    def strata(self, raw: list[Any]) -> list[str] | None:
        return self.plain.strata(raw)

    def encode(self, raw: list[Any]) -> Tensor:
        rank_N1 = self.plain.encode(raw)[:, None]
        return (torch.arange(self.outputs) < rank_N1).float()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.float(), target)

    def kl(self, one: Tensor, two: Tensor, target: Tensor) -> Tensor:
        return divergence.coins(one, two, target)

    def decode(self, logits: Tensor) -> list[str]:
        return [self.labels[i] for i in self.predicted(logits).tolist()]

    def probabilities(self, logits: Tensor) -> np.ndarray:
        # P(y > k) may rise with k by a little, which is no distribution: each is bounded by those below it
        more_NK = logits.float().sigmoid().cummin(1)[0]
        edge_N1 = torch.ones(len(logits), 1)
        more = torch.cat([edge_N1, more_NK, edge_N1 * 0], 1)
        return (more[:, :-1] - more[:, 1:]).numpy()

    def predicted(self, logits: Tensor) -> np.ndarray:
        return (logits > 0).long().cumprod(1).sum(1).cpu().numpy()

    def true(self, target: Tensor) -> np.ndarray:
        return target.sum(1).long().cpu().numpy()

    def metrics(self) -> Scores:
        names = ("mae", "accuracy", "spearman")
        return Scores({name: metric(name).build(len(self.labels)) for name in names})
