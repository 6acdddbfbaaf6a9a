"""R3F: what is predicted must not change where noise is added to the vectors of the tokens.

    L = L_task(f(x)) + w [KL(f(x) || f(x + z)) + KL(f(x + z) || f(x))],   z ~ U(-e, e)

Aghajanyan et al. 2020, Better Fine-Tuning by Reducing Representational Collapse, arXiv:2008.03156, section 3 (R3F). As in the
authors' code, z is added to what the token table gives, which learns nothing from the noisy pass. MUPPET trains with it
(arXiv:2101.11038).

Differs from its code: it also smooths predictions of numbers, by their squared distance.
"""

import torch
from torch import Tensor

from bertsmith import tap
from bertsmith.around import Around
from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.objective import Batch
from bertsmith.perturb import Perturbation
from bertsmith.spec import Spec


class R3F(Around):
    """Around any objective, through its `predict`, `loss` and `kl` alone. `weight` is w, `radius` e."""

    paper = "arXiv:2008.03156"
    example = {"inner": {"kind": "objective/masked_lm", "masking": {"kind": "masking/bert"}}}

    def __init__(self, encoder: Encoder, *, inner: Spec, weight: float = 1.0, radius: float = 1e-5):
        super().__init__(encoder, inner)
        if min(weight, radius) < 0:
            raise ValueError(f"objective/r3f: weight and radius are at least 0; got {weight} and {radius}")
        self.weight, self.radius = weight, radius

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        logits, target = self.predict(encoder, batch)
        nudge = Perturbation(encoder, self._noise, join=lambda x_BTD, delta_BTD: x_BTD.detach() + delta_BTD)
        with nudge.applied(), tap.heard():  # what the noisy pass says (a balance of experts) is not asked twice
            moved = self.predict(encoder, batch)[0]
        task, apart = self.loss(logits, target), self.kl(logits, moved, target) + self.kl(moved, logits, target)
        return {"loss": task + self.weight * apart, "task": task.detach(), "apart": apart.detach()}

    def _noise(self, x_BTD: Tensor, layout: Layout, rng: torch.Generator) -> Tensor:
        return torch.empty_like(x_BTD).uniform_(-self.radius, self.radius, generator=rng) * layout.real_BT[..., None]
