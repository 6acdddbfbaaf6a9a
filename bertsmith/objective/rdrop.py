"""R-Drop: two passes with different dropout, and what they predict is pulled together.

L = L1 + L2 + alpha (KL(P1 || P2) + KL(P2 || P1)) / 2.  Liang et al. 2021, arXiv:2106.14448, eq. 2 to 4.

Differs from the paper: the two losses are averaged, not added, as in the authors' code, so that a learning rate found
without R-Drop still fits (their alpha is twice ours).
"""

from torch import Tensor

from bertsmith.around import Around
from bertsmith.encoder import Encoder
from bertsmith.objective import Batch
from bertsmith.spec import Spec


class RDrop(Around):
    """Around any objective, through its `predict`, `loss` and `kl` alone; what P is, its task knows."""

    paper = "arXiv:2106.14448"
    example = {"inner": {"kind": "objective/masked_lm", "masking": {"kind": "masking/bert"}}}

    def __init__(self, encoder: Encoder, *, inner: Spec, alpha: float = 1.0):
        super().__init__(encoder, inner)
        if alpha < 0:
            raise ValueError(f"objective/rdrop: alpha is at least 0, not {alpha}")
        self.alpha = alpha

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        (one, target), (two, _) = self.predict(encoder, batch), self.predict(encoder, batch)
        task = (self.loss(one, target) + self.loss(two, target)) / 2
        apart = (self.kl(one, two, target) + self.kl(two, one, target)) / 2
        return {"loss": task + self.alpha * apart, "task": task.detach(), "apart": apart.detach()}
