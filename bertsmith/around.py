"""What is common to objectives around an objective: the batch, the head and the prediction are those of the inner one."""

from typing import Any

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.objective import Batch, Corrupt, Objective
from bertsmith.spec import Spec


class Around(Objective):
    """A kind says its `forward`, through `predict`, `loss` and `kl` alone, so that it goes around any objective."""

    inner: Objective

    def __init__(self, encoder: Encoder, inner: Spec):
        super().__init__(encoder)
        built: Objective = inner.build(encoder)
        # the head first, so that its tensors are named objective.head.*, as where nothing is around
        self.head, self.head_spec = built.head, built.head_spec
        self.inner = built

    def corruption(self) -> Corrupt:
        return self.inner.corruption()

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.inner.predict(encoder, batch)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.inner.loss(logits, target)

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        return self.inner.kl(one, two, target)
