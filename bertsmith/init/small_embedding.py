"""Tables start tiny, under a norm, and so turn fast: entries of U(-1e-4, 1e-4), all else as in BERT.

SmallInitEmb, as described for RWKV, Peng et al. 2023, arXiv:2305.13048. A step of Adam moves an entry by the
learning rate, whatever its size; the norm after the embedding shows the direction alone.
"""

import torch
from torch import Tensor, nn

from bertsmith.init import Init
from bertsmith.linear import fits


class SmallEmbedding(Init):
    """`size`: of the largest entry. `std`: of all other matrices. `tables`: patterns of the tables."""

    paper = "arXiv:2305.13048"

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        size: float = 1e-4,
        std: float = 0.02,
        tables: list[str] = ["**embedding.**table.weight", "**embedding.{types,facts.*}.weight"],  # noqa: B006
    ):
        super().__init__(dim, depth)
        self.size, self.std, self.tables = size, std, tables

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        if tensor.dim() < 2:
            self.fill_vector(path, tensor)
        elif any(fits(path, pattern) for pattern in self.tables):
            nn.init.uniform_(tensor, -self.size, self.size, generator=rng)
        else:
            nn.init.trunc_normal_(tensor, std=self.std, a=-2 * self.std, b=2 * self.std, generator=rng)
