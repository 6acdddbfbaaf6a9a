"""Several numbers for each text by one head: recordings of many voxels or sensors, ratings on several scales.

Squared error on standardised targets; a target that is missing (NaN) is not asked. Fine-tuning on brain recordings, Schwartz,
Toneva & Wehbe 2019, arXiv:1911.03268, section 2.

N texts, K numbers each.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertsmith import divergence
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.task import Prediction, Task


class Regressions(Task):
    """Targets float32_NK in the units of the table. A raw label is a list of K numbers, or one string of them with spaces.

    mean, scale: of each of the training targets.
    """

    floor = "rmse"
    paper = "arXiv:1911.03268"

    def __init__(self, labels: list[str], *, mean: list[float] = [], scale: list[float] = []) -> None:  # noqa: B006
        super().__init__(labels)
        if any(len(x) not in (0, len(labels)) for x in (mean, scale)) or not all(s > 0 for s in scale):
            raise ValueError(f"task/regressions over {len(labels)} numbers needs as many means and scales above 0")
        self.mean = torch.tensor(mean or [0.0] * len(labels))
        self.scale = torch.tensor(scale or [1.0] * len(labels))

    def names(self, raw: list[Any]) -> list[str]:
        sizes = {len(numbers(x)) for x in raw}
        if len(sizes) != 1:
            raise ValueError(
                f"every text needs as many numbers; there are lists of {', '.join(map(str, sorted(sizes)))}"
            )
        return [f"value_{i + 1}" for i in range(sizes.pop())]

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        y_NK = self.encode(raw).double()
        there = ~y_NK.isnan()
        mean = y_NK.nansum(0) / there.sum(0).clamp(min=1)
        square = torch.where(there, y_NK - mean, 0).square().sum(0) / there.sum(0).clamp(min=1)
        return {"mean": mean.tolist(), "scale": [x or 1.0 for x in square.sqrt().tolist()]}

    def encode(self, raw: list[Any]) -> Tensor:
        return torch.tensor([numbers(x) for x in raw], dtype=torch.float32)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        there = ~target.isnan()
        z = (torch.where(there, target, 0.0) - self.mean.to(target.device)) / self.scale.to(target.device)
        return ((logits.float() - z).square() * there).sum() / there.sum().clamp(min=1)

    def kl(self, one: Tensor, two: Tensor, target: Tensor) -> Tensor:
        return divergence.numbers(one, two, target)

    def decode(self, logits: Tensor) -> list[list[float]]:
        return self.predicted(logits).tolist()

    def probabilities(self, logits: Tensor) -> np.ndarray:
        return np.zeros((len(logits), 0), np.float32)

    def answers(self, parts: list[list[Any]]) -> list[Prediction]:
        return [Prediction(x) for x in self.decode(torch.stack([p[0] for p in parts]))]

    def predicted(self, logits: Tensor) -> np.ndarray:
        return (self.mean + self.scale * logits).double().cpu().numpy()

    def true(self, target: Tensor) -> np.ndarray:
        return target.double().cpu().numpy()

    def metrics(self) -> Scores:
        each = {name: metric("columns", inner=metric(name)) for name in ("rmse", "mae", "r2", "pearson")}
        return Scores({name: one.build(len(self.labels)) for name, one in each.items()})


def numbers(raw: Any) -> list[float]:
    """The numbers of one raw label; None and "" are NaN. Raises ValueError for what is none."""
    given = raw.split() if isinstance(raw, str) else list(raw)
    try:
        found = [math.nan if x is None or x == "" else float(x) for x in given]
    except (TypeError, ValueError):
        raise ValueError(f"targets must be numbers; got {raw!r}") from None
    if any(math.isinf(x) for x in found):
        raise ValueError(f"targets must be finite; got {raw!r}")
    return found
