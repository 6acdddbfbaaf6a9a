"""SiFT, scale-invariant fine-tuning: predictions must not change where normalised embeddings are moved adversarially.

    L = L_task + w [KL(P || P') + KL(P' || P)],   P' from n(x) + d,   n(x): x less its mean, by its deviation
    d <- d + r g / max|g|,   g the gradient of that divergence by d, max|g| of each token,   d ~ N(0, s^2) cut at 2 s at first

DeBERTa, He et al. 2020, arXiv:2006.03654, section 5 (virtual adversarial training, Miyato et al. 2017, arXiv:1605.07725), and
its code: the probabilities that weigh the logarithms are constants, and the embedding learns nothing from the moved pass.

Differs from its code: x + d * deviation(x) is what the norm of the embedding takes, which is the same where that is layer
normalisation, and leaves the clean pass as it was where it is another; padding is not moved.
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


class SiFT(Around):
    """Around any objective, through its `predict`, `loss` and `kl` alone. `weight` is w, `rate` r, `start` s; `ascents`: how
    often d moves."""

    paper = "arXiv:2006.03654"
    example = {"inner": {"kind": "objective/masked_lm", "masking": {"kind": "masking/bert"}}}

    def __init__(
        self,
        encoder: Encoder,
        *,
        inner: Spec,
        weight: float = 5.0,
        rate: float = 1e-4,
        start: float = 1e-2,
        ascents: int = 1,
    ):
        super().__init__(encoder, inner)
        if weight < 0 or rate < 0 or start <= 0 or ascents < 1:
            raise ValueError(
                f"objective/sift: weight and rate are at least 0, start is above 0 and ascents at least 1; got {weight}, "
                f"{rate}, {start}, {ascents}"
            )
        self.weight, self.rate, self.start, self.ascents = weight, rate, start, ascents

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        clean, target = self.predict(encoder, batch)
        nudge = Perturbation(encoder, self._first, at="norm", join=_scaled)
        for _ in range(self.ascents):
            with torch.enable_grad(), nudge.applied(), tap.heard():
                moved = self.predict(encoder, batch)[0]
                nudge.climb(self._apart(at_rest(clean), moved, target) * len(moved), self._move)
        with nudge.applied(), tap.heard():  # what the moved pass says (a balance of experts) is not asked twice
            apart = self._apart(clean, self.predict(encoder, batch)[0], target)
        task = self.loss(clean, target)
        return {"loss": task + self.weight * apart, "task": task.detach(), "apart": apart.detach()}

    def _apart(self, clean: Any, moved: Any, target: Any) -> Tensor:
        return self.kl(at_rest(clean), moved, target) + self.kl(at_rest(moved), clean, target)

    def _first(self, x_BTD: Tensor, layout: Layout, rng: torch.Generator) -> Tensor:
        noise = torch.empty_like(x_BTD).normal_(0, self.start, generator=rng)
        return noise.clamp(-2 * self.start, 2 * self.start) * layout.real_BT[..., None]

    def _move(self, delta_BTD: Tensor, grad_BTD: Tensor, layout: Layout) -> Tensor:
        step = grad_BTD / (1e-6 + grad_BTD.abs().amax(-1, keepdim=True))
        return (delta_BTD + self.rate * step) * layout.real_BT[..., None]


def _scaled(x_BTD: Tensor, delta_BTD: Tensor) -> Tensor:
    x_BTD = x_BTD.detach()
    return x_BTD + delta_BTD * x_BTD.std(-1, correction=0, keepdim=True)
