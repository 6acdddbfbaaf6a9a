"""LoRA: low-rank adaptation, W' = W + (alpha / r) B A, with B = 0 at the start.

Hu et al. 2021, arXiv:2106.09685, eq. 3 (the factor alpha / r: section 4.1).

Differs from the paper: no dropout on the layer's input, which is not a function of W. The paper leaves the variance of
A open: "kaiming" is the authors' code (uniform in +-1 / sqrt(in)), "gaussian" is N(0, 1 / r^2), as `peft` has both.
"""

import math

import torch
from torch import Tensor, nn

from bertsmith.edit import Edit
from bertsmith.kernels import generator


class LoRA(Edit):
    """A [rank, in], B [out, rank]; on an embedding, `in` is its width and `out` its rows."""

    paper = "arXiv:2106.09685"

    def __init__(self, weight: Tensor, *, rank: int = 8, alpha: float = 16.0, init: str = "kaiming"):
        super().__init__(weight)
        fills = {
            "kaiming": lambda a: nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator()),
            "gaussian": lambda a: nn.init.normal_(a, std=1 / rank, generator=generator()),
        }
        if rank < 1:
            raise ValueError(f"edit/lora: rank is at least 1, not {rank}")
        if init not in fills:
            raise ValueError(f"edit/lora has no init {init!r}; there are: {', '.join(fills)}")
        dim_out, dim_in = weight.shape
        self.scale = alpha / rank
        self.a = nn.Parameter(fills[init](torch.empty(rank, dim_in)))
        self.b = nn.Parameter(torch.zeros(dim_out, rank))

    def forward(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight + self.scale * (self.b @ self.a), bias
