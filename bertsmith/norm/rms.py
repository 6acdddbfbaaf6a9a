"""Root mean square normalisation: y = x / sqrt(mean(x^2) + eps) * w over the width.

Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class RMS(Norm):
    paper = "arXiv:1910.07467"

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__(dim)
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return F.rms_norm(x_BTD, x_BTD.shape[-1:], self.weight, self.eps)
