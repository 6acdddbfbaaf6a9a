"""GELU by tanh: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).  Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2."""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.act import Act


class GELUTanh(Act):
    paper = "arXiv:1606.08415"

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")
