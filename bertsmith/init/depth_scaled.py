"""The deeper the layer, the smaller: W ~ U(-r, r), r = a sqrt(6 / (in + out)) / sqrt(l) in layer l, from 1.

DS-Init, Zhang et al. 2019, arXiv:1908.11365 (Xavier initialisation divided by sqrt(l)).

Differs from the paper: tables, and what lies outside the layers, start as in BERT.
"""

import torch
from torch import Tensor, nn

from bertsmith.init import Init


class DepthScaled(Init):
    """`alpha` = a. `std`: of the truncated normal distribution outside the layers."""

    paper = "arXiv:1908.11365"

    def __init__(self, dim: int, depth: int, *, alpha: float = 1.0, std: float = 0.02):
        super().__init__(dim, depth)
        self.alpha, self.std = alpha, std

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        if tensor.dim() < 2:
            self.fill_vector(path, tensor)
        elif layer is None:
            nn.init.trunc_normal_(tensor, std=self.std, a=-2 * self.std, b=2 * self.std, generator=rng)
        else:
            nn.init.xavier_uniform_(tensor, self.alpha / (layer + 1) ** 0.5, generator=rng)
