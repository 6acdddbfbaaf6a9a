"""What is learned."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from bertsmith import divergence, kernels
from bertsmith.encoder import Encoder
from bertsmith.spec import Slot, Spec

Batch = dict[str, Any]  # {"token": token_BT, "layout": Layout, ...}


class Corrupt:
    """What happens to a batch in the loader, on the CPU: (batch, one generator a row) -> batch. Small and picklable."""

    def __call__(self, batch: Batch, rngs: list[np.random.Generator]) -> Batch:
        return batch


class Objective(nn.Module):
    """Owns all that the encoder is trained with. What ships is its `head`, described by `head_spec`.

    `predict`, `loss` and `kl` are all that an objective around an objective uses (distillation, consistency).
    """

    paper = ""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.head: Any = None  # a Head where there is one to ship
        self.head_spec: Spec | None = None

    def corruption(self) -> Corrupt:
        return Corrupt()

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """(logits [N, K], target [N] or [N, K])."""
        raise NotImplementedError

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean over all that is asked; 0, with a gradient of 0, where nothing is."""
        return kernels.cross_entropy(logits, target) / max(1, target.numel())

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        """KL(P || Q) of two predictions, the mean over all that is asked. Here: of classes."""
        return divergence.classes(one, two, target)

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        """{"loss": ..., and whatever is worth a line in the log}."""
        return {"loss": self.loss(*self.predict(encoder, batch))}


objective = Slot(__name__, Objective)
