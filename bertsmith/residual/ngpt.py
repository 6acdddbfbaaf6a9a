"""A step on the sphere towards what f says: y = Norm(x + a * (Norm(f(x)) - x)), a learned for every dimension, |x| = |y| = 1.

nGPT, Loshchilov et al. 2024, arXiv:2410.01131, eq. 10 and 11; a = |a| and x itself normalised, as its code has it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.residual import Residual


class NGPTStep(Residual):
    """`start` of a, on the order of 1 / depth. `step_size` is a / (start sqrt(D)): its pace of learning."""

    paper = "arXiv:2410.01131"
    starts = ("step_size",)

    def __init__(self, dim: int, layer: int, depth: int, *, start: float = 0.05):
        super().__init__(dim, layer, depth)
        self.gain = start * dim**0.5
        self.step_size = nn.Parameter(torch.full((dim,), dim**-0.5))

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return F.normalize(x_BTD, dim=-1)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        x_BTD = F.normalize(x_BTD, dim=-1)
        towards_BTD = F.normalize(f(x_BTD), dim=-1) - x_BTD
        return F.normalize(x_BTD + (self.step_size * self.gain).abs() * towards_BTD, dim=-1)
