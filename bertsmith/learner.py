"""What the loop trains: encoder and objective under one root, and the fp32 masters of their weights."""

from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor, nn

from bertsmith import tap
from bertsmith.encoder import Encoder
from bertsmith.init import initialise
from bertsmith.kernels import seeded, undrawn
from bertsmith.linear import apply_changes
from bertsmith.objective import Batch, Objective
from bertsmith.optim import Optim
from bertsmith.spec import Spec


class Learner(nn.Module):
    """Encoder and objective under one root: every tensor has one name, and tied ones are kept once."""

    def __init__(self, encoder: Encoder, objective: Objective):
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def begin_step(self, progress: float) -> None:
        """Every piece that changes as training goes on (`tap.Stepped`) takes its step; 1.0 is the end of the stage."""
        for module in self.modules():
            if tap.stepped(type(module)):
                cast(tap.Stepped, module).step(progress)

    def loss(self, batch: Batch) -> Tensor:
        """What the objective asks, and what pieces say."""
        with tap.heard() as extra:
            return self.objective(self.encoder, batch)["loss"] + sum(extra.values())


class Masters:
    """fp32 masters of the parameters. In bf16 the model holds copies: cast once a step, which beats autocast."""

    def __init__(self, model: nn.Module, precision: str):
        self.live, self.copied = dict(model.named_parameters()), precision == "bf16"
        self.fp32 = {n: p.detach().clone() if self.copied else p for n, p in self.live.items()}
        for p in self.live.values() if self.copied else ():
            p.data = p.data.bfloat16()

    def clip(self, names: list[str], most: float, optimiser: Optim, mean_: Callable[[list[Tensor]], None]) -> float:
        """Hand the gradients to an optimiser, scaled to a norm of at most `most`; the norm that they had.

        mean_: what is done to them first, in place, where there are several processes.
        """
        if optimiser.paired:
            return optimiser.clip(most)
        mean_(self.gradients(names))
        return float(nn.utils.clip_grad_norm_([self.fp32[n] for n in names], most))

    def gradients(self, names: list[str]) -> list[Tensor]:
        """The gradients of the masters, moved from the copies."""
        for n in names if self.copied else ():
            grad = self.live[n].grad
            self.fp32[n].grad = None if grad is None else grad.float()
            self.live[n].grad = None
        return [g for n in names if (g := self.fp32[n].grad) is not None]

    @torch.no_grad()
    def write(self, names: list[str], optimiser: Optim) -> None:
        """Masters to copies, after a step, unless it wrote them; no gradient is left."""
        for n in names if self.copied and not optimiser.paired else ():
            self.live[n].copy_(self.fp32[n])
        for n in names:
            self.fp32[n].grad = self.live[n].grad = None


def build(
    spec: Spec, changes: list[dict[str, Any]], objective: Spec, seed: int, known: Collection[str] = ()
) -> Learner:
    """Encoder with its edits and grafts, and objective; initial weights are a function of the seed.

    known: names of tensors that are loaded next, so that their start need not be drawn.
    """
    with seeded(seed, "build"):
        with undrawn():
            encoder = spec.build()
            learner = Learner(encoder, objective.build(encoder))
        initialise(learner, encoder.init, seed, known=known)
        apply_changes(encoder, changes)
    return learner
