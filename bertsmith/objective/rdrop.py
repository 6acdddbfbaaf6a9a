"""R-Drop: two passes with different dropout, and what they predict is pulled together.

L = L1 + L2 + alpha (KL(P1 || P2) + KL(P2 || P1)) / 2.  Liang et al. 2021, arXiv:2106.14448, eq. 2 to 4.

Differs from the paper: the two losses are averaged, not added, as in the authors' code, so that a learning rate found
without R-Drop still fits (their alpha is twice ours).
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.objective import Batch, Corrupt, Objective
from bertsmith.spec import Spec


class RDrop(Objective):
    """Around any objective, through its `predict` and `loss` alone. What P is, the target says: whole numbers, one of K
    classes; a row of numbers, K yes-or-no questions; a number, a normal distribution of unit variance."""

    paper = "arXiv:2106.14448"
    example = {"inner": {"kind": "objective/masked_lm", "masking": {"kind": "masking/bert"}}}

    def __init__(self, encoder: Encoder, *, inner: Spec, alpha: float = 1.0):
        super().__init__(encoder)
        if alpha < 0:
            raise ValueError(f"objective/rdrop: alpha is at least 0, not {alpha}")
        built: Objective = inner.build(encoder)
        # the head first, so that its tensors are named objective.head.*, as without R-Drop
        self.head, self.head_spec = built.head, built.head_spec
        self.inner, self.alpha = built, alpha

    def corruption(self) -> Corrupt:
        return self.inner.corruption()

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.inner.predict(encoder, batch)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.inner.loss(logits, target)

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        (one, target), (two, _) = self.predict(encoder, batch), self.predict(encoder, batch)
        task = (self.loss(one, target) + self.loss(two, target)) / 2
        apart = divergence(one.float(), two.float(), target)
        return {"loss": task + self.alpha * apart, "task": task.detach(), "apart": apart.detach()}


def divergence(one_NK: Tensor, two_NK: Tensor, target: Tensor) -> Tensor:
    """The mean over N of (KL(P1 || P2) + KL(P2 || P1)) / 2; 0 where N is 0."""
    n = max(1, len(one_NK))
    if not target.is_floating_point():
        a, b = one_NK.log_softmax(-1), two_NK.log_softmax(-1)
        return ((a.exp() - b.exp()) * (a - b)).sum() / (2 * n)
    if target.dim() > 1 and one_NK.shape[-1] > 1:
        # the log-odds differ by one - two, the probabilities by p - q: both directions of the KL of a coin, added
        return ((one_NK.sigmoid() - two_NK.sigmoid()) * (one_NK - two_NK)).sum() / (2 * n)
    return F.mse_loss(one_NK, two_NK, reduction="sum") / (2 * n)
