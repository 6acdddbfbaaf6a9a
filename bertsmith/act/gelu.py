"""x Phi(x), with Phi the normal distribution function.  Hendrycks & Gimpel 2016, arXiv:1606.08415, eq. 1."""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.act import Act


class GELU(Act):
    paper = "arXiv:1606.08415"

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)
