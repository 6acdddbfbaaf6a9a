"""A number for each text: squared error on the standardised target.

BERT on STS-B, Devlin et al. 2018, arXiv:1810.04805, appendix B.1.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith import divergence
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.task import Task


class Regression(Task):
    """Targets float32_N in the unit of the table. The answer is mean + scale z, the loss (z - (y - mean) / scale)^2.

    mean, scale: of the training targets, so that a head that starts at 0 starts at their mean, whatever their unit.
    """

    floor = "rmse"
    paper = "arXiv:1810.04805"

    def __init__(self, labels: list[str], *, mean: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(labels)
        if len(labels) > 1:
            raise ValueError(
                f"task/regression predicts one number; got {len(labels)} names for it: {', '.join(labels)}"
            )
        if not scale > 0:
            raise ValueError(f"task/regression needs a scale above 0; got {scale}")
        self.outputs, self.mean, self.scale = 1, mean, scale

    def names(self, raw: list[Any]) -> list[str]:
        return ["value"]

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        y = self.encode(raw).double()
        return {"mean": float(y.mean()), "scale": float(y.std(correction=0)) or 1.0}

    def encode(self, raw: list[Any]) -> Tensor:
        numbers = []
        for x in raw:
            try:
                numbers.append(float(x))
            except (TypeError, ValueError):
                raise ValueError(f"a target must be a number; got {x!r}") from None
            if not math.isfinite(numbers[-1]):
                raise ValueError(f"a target must be a finite number; got {x!r}")
        return torch.tensor(numbers, dtype=torch.float32)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(logits.float()[:, 0], (target - self.mean) / self.scale)

    def kl(self, one: Tensor, two: Tensor, target: Tensor) -> Tensor:
        return divergence.numbers(one, two, target)

    def decode(self, logits: Tensor) -> list[float]:
        return self.predicted(logits).tolist()

    def probabilities(self, logits: Tensor) -> np.ndarray:
        return np.zeros((len(logits), 0), np.float32)

    def predicted(self, logits: Tensor) -> np.ndarray:
        return (self.mean + self.scale * logits[:, 0].double()).cpu().numpy()

    def true(self, target: Tensor) -> np.ndarray:
        return target.double().cpu().numpy()

    def metrics(self) -> Scores:
        return Scores({name: metric(name).build(1) for name in ("pearson", "spearman", "rmse")})
