"""Bottleneck adapter, after a mixer or a feed-forward and before its residual: y + W_up act(W_down y).

Houlsby et al. 2019, arXiv:1902.00751, fig. 2 and section 2.1.

Differs from the paper: W_up starts at exactly 0 (theirs: near it), so that the start is the model as it was.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.graft import Graft
from bertsmith.linear import Linear


class Bottleneck(Graft):
    """Hang it at `layers.*.{mixer,ffn}`; `size` is the width of the bottleneck."""

    paper = "arXiv:1902.00751"

    def __init__(self, host: nn.Module, path: str, dim: int, heads: int, *, size: int = 64):
        super().__init__(host, path, dim, heads)
        self.down, self.up = Linear(dim, size), Linear(size, dim)
        nn.init.zeros_(self.up.weight)

    def forward(self, inner: Callable[..., Tensor], *inputs: Any) -> Tensor:
        y_BTD = inner(*inputs)
        return y_BTD + self.up(F.gelu(self.down(y_BTD)))
