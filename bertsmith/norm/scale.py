"""ScaleNorm: y = g x / ||x||, one learned length g for all tokens, in place of a weight and a bias for every dimension.

Nguyen & Salazar 2019, arXiv:1910.05895, section 2.3; g starts at sqrt(D), so that y starts as RMS normalisation does.
"""

import torch
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class Scale(Norm):
    """`eps`: the least length that is divided by."""

    paper = "arXiv:1910.05895"
    starts = ("weight",)

    def __init__(self, dim: int, *, eps: float = 1e-5):
        super().__init__(dim)
        self.weight, self.eps = nn.Parameter(torch.tensor(dim**0.5)), eps

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        length_BT1 = torch.linalg.vector_norm(x_BTD, dim=-1, keepdim=True).clamp(min=self.eps)
        return x_BTD * (self.weight / length_BT1)
