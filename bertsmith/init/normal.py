"""Matrices and tables from a normal distribution cut at two standard deviations; biases 0, norm weights 1.

BERT, Devlin et al. 2018, arXiv:1810.04805 (its code: truncated normal, 0.02).
"""

import torch
from torch import Tensor, nn

from bertsmith.init import Init


class Normal(Init):
    paper = "arXiv:1810.04805"

    def __init__(self, dim: int, depth: int, *, std: float = 0.02):
        super().__init__(dim, depth)
        self.std = std

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        if tensor.dim() > 1:
            nn.init.trunc_normal_(tensor, std=self.std, a=-2 * self.std, b=2 * self.std, generator=rng)
        else:
            tensor.fill_(0.0 if path.endswith("bias") else 1.0)
