"""Xavier, with a gain b = (8 N)^(-1/4) in an encoder of N layers for all but queries and keys; for residual/deepnorm.

DeepNet, Wang et al. 2022, arXiv:2203.00555, fig. 2: W ~ N(0, g^2 2 / (in + out)), g = b for feed-forwards, values and
outputs, g = 1 for queries and keys.

Differs from the paper: tables, and what lies outside the layers, start as in BERT.
"""

import torch
from torch import Tensor, nn

from bertsmith.init import Init
from bertsmith.linear import fits


class DeepNorm(Init):
    """`unscaled`: patterns of the weights with gain 1. `std`: of the truncated normal distribution outside the layers."""

    paper = "arXiv:2203.00555"

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        unscaled: list[str] = ["**.mixer.[qk].weight"],  # noqa: B006
        std: float = 0.02,
    ):
        super().__init__(dim, depth)
        self.unscaled, self.std = unscaled, std

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        if tensor.dim() < 2:
            self.fill_vector(path, tensor)
        elif layer is None:
            nn.init.trunc_normal_(tensor, std=self.std, a=-2 * self.std, b=2 * self.std, generator=rng)
        else:
            plain = any(fits(path, pattern) for pattern in self.unscaled)
            nn.init.xavier_normal_(tensor, 1.0 if plain else (8 * self.depth) ** -0.25, generator=rng)
