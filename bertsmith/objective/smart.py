"""SMART: predictions must be smooth around the token vectors, and must not run away from those of a slower copy.

    L = L_task + l R + m D,   R = l_s(f(x'), f(x)) at the worst x' within e of x,   D = l_s(f(x; w), f(x; v))
    l_s(P, Q) = KL(P || Q) + KL(Q || P), the squared distance for numbers
    x' <- clip(x' + h g / max|g|, x - e, x + e),   g the gradient of l_s by x',   x' = x + N(0, s^2) at first
    v <- b v + (1 - b) w after every step,   b = 0.99 in the first tenth of the steps, then 0.999

Jiang et al. 2019, arXiv:1911.03437, section 3 and algorithm 1 (smoothness-inducing adversarial regularisation and momentum
Bregman proximal point optimisation).

Differs from the paper: max|g| is that of each token's vector, as in the authors' code; the optimiser makes one step a batch
(S = 1). The copy v predicts without dropout.
"""

from typing import Any

import torch
from torch import Tensor

from bertsmith import tap
from bertsmith.around import Around
from bertsmith.divergence import at_rest
from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.objective import Batch
from bertsmith.perturb import Perturbation
from bertsmith.spec import Spec
from bertsmith.teacher import Teacher


class SMART(Around):
    """Around any objective, through its `predict`, `loss` and `kl` alone. `weight` is l, `radius` e, `start` s, `rate` h,
    `ascents` how often x' moves; `mu` is m, `momentum` b before and after the tenth.

    With mu 0 no copy is kept. Above it, edits and grafts must not train: the copy has none.
    """

    paper = "arXiv:1911.03437"
    example = {"inner": {"kind": "objective/masked_lm", "masking": {"kind": "masking/bert"}}, "mu": 0.1}

    def __init__(
        self,
        encoder: Encoder,
        *,
        inner: Spec,
        weight: float = 1.0,
        mu: float = 1.0,
        radius: float = 1e-5,
        start: float = 1e-5,
        rate: float = 1e-3,
        ascents: int = 1,
        momentum: list[float] = [0.99, 0.999],  # noqa: B006
    ):
        super().__init__(encoder, inner)
        if min(weight, mu, radius, rate) < 0 or start <= 0 or ascents < 1:
            raise ValueError(
                "objective/smart: weight, mu, radius and rate are at least 0, start is above 0 and ascents at least 1; got "
                f"{weight}, {mu}, {radius}, {rate}, {start}, {ascents}"
            )
        if len(momentum) != 2 or not all(0 <= b < 1 for b in momentum):
            raise ValueError(f"objective/smart: momentum is two numbers in [0, 1), not {momentum}")
        self.weight, self.mu, self.radius, self.start, self.rate = weight, mu, radius, start, rate
        self.ascents, self.momentum = ascents, momentum
        self.teacher = Teacher(encoder, self.inner) if mu else None
        self.beta, self.due = momentum[0], True

    def step(self, progress: float) -> None:
        # the copy moves in the first forward after this, which is handed the encoder
        self.beta, self.due = self.momentum[0 if progress < 0.1 else 1], True

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        logits, target = self.predict(encoder, batch)
        rough, task = self._rough(encoder, batch, logits, target), self.loss(logits, target)
        out = {"loss": task + self.weight * rough, "task": task.detach(), "rough": rough.detach()}
        if self.teacher is None:
            return out
        if self.due:
            self.teacher.follow(encoder, self.inner, self.beta)
            self.due = False
        far = self._apart(logits, self.teacher.predict(batch)[0], target)
        return out | {"loss": out["loss"] + self.mu * far, "far": far.detach()}

    def _apart(self, one: Any, two: Any, target: Any) -> Tensor:
        return self.kl(one, two, target) + self.kl(two, one, target)

    def _rough(self, encoder: Encoder, batch: Batch, logits: Tensor, target: Tensor) -> Tensor:
        nudge = Perturbation(encoder, self._first)
        for _ in range(self.ascents):
            with torch.enable_grad(), nudge.applied(), tap.heard():
                moved = self.predict(encoder, batch)[0]
                nudge.climb(self._apart(moved, at_rest(logits), target), self._move)
        with nudge.applied(), tap.heard():  # what the moved pass says (a balance of experts) is not asked twice
            return self._apart(self.predict(encoder, batch)[0], logits, target)

    def _first(self, x_BTD: Tensor, layout: Layout, rng: torch.Generator) -> Tensor:
        return torch.empty_like(x_BTD).normal_(0, self.start, generator=rng) * layout.real_BT[..., None]

    def _move(self, delta_BTD: Tensor, grad_BTD: Tensor, layout: Layout) -> Tensor:
        # gradients are small here: only where there is none at all, nothing moves
        most_BT1 = grad_BTD.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(grad_BTD.dtype).tiny)
        moved = (delta_BTD + self.rate * grad_BTD / most_BT1).clamp(-self.radius, self.radius)
        return moved * layout.real_BT[..., None]
