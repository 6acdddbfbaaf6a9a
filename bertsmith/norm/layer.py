"""Layer normalisation: y = (x - mean) / sqrt(var + eps) * w + b over the width.

Ba et al. 2016, arXiv:1607.06450, eq. 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class Layer(Norm):
    paper = "arXiv:1607.06450"

    def __init__(self, dim: int, *, eps: float = 1e-12, bias: bool = True):
        super().__init__(dim)
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.eps = eps

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return F.layer_norm(x_BTD, x_BTD.shape[-1:], self.weight, self.bias, self.eps)
