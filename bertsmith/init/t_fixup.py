"""A start from which no normalisation and no warm-up is needed: Xavier, with smaller values, outputs and tables.

T-Fixup, Huang et al. 2020, Improving Transformer Optimization Through Better Initialization, PMLR 119:4475:
    W ~ U(-r, r), r = g sqrt(6 / (in + out)), g = 0.67 N^(-1/4) for values, outputs and feed-forwards, 1 for the others
    tables ~ N(0, 1 / D), times (9 N)^(-1/4)
for residual/pre with norm/none.

Differs from the paper: it has a decoder, whose depth it takes for the tables; here the encoder's is taken.
"""

import torch
from torch import Tensor, nn

from bertsmith.init import Init
from bertsmith.linear import fits


class TFixup(Init):
    """`unscaled`: patterns of weights in the layers with g = 1. `tables`: patterns of what starts as tables do."""

    paper = "PMLR 119:4475"

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        unscaled: list[str] = ["**.mixer.[qk].weight"],  # noqa: B006
        tables: list[str] = ["**embedding.**table.weight", "**embedding.{types,facts.*}.weight"],  # noqa: B006
    ):
        super().__init__(dim, depth)
        self.unscaled, self.tables = unscaled, tables

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        if tensor.dim() < 2:
            self.fill_vector(path, tensor)
        elif any(fits(path, pattern) for pattern in self.tables):
            nn.init.normal_(tensor, std=tensor.shape[1] ** -0.5 * (9 * self.depth) ** -0.25, generator=rng)
        else:
            plain = layer is None or any(fits(path, pattern) for pattern in self.unscaled)
            nn.init.xavier_uniform_(tensor, 1.0 if plain else 0.67 * self.depth**-0.25, generator=rng)
