"""Normal as in BERT, but what writes into the stream starts smaller: std / sqrt(2 N) for N layers.

GPT-2, Radford et al. 2019, section 2.3; Megatron-LM, Shoeybi et al. 2019, arXiv:1909.08053, section 3.
"""

import torch
from torch import Tensor, nn

from bertsmith.init import Init
from bertsmith.linear import fits


class ResidualScaled(Init):
    """`writes`: patterns of the weights that write into the stream."""

    paper = "arXiv:1909.08053"

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        std: float = 0.02,
        writes: list[str] = ["**.mixer.out.weight", "**.ffn.**down.weight"],  # noqa: B006
    ):
        super().__init__(dim, depth)
        self.std, self.writes = std, writes

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        if tensor.dim() < 2:
            return self.fill_vector(path, tensor)
        written = layer is not None and any(fits(path, pattern) for pattern in self.writes)
        std = self.std / (2 * self.depth) ** 0.5 if written else self.std
        nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std, generator=rng)
