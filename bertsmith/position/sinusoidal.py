"""Fixed sines and cosines of the place, added to the embedding: sin(p / 10000^(2i / D)) and cos(p / 10000^(2i / D)).

Vaswani et al. 2017, arXiv:1706.03762, section 3.5 (even places of the width are sines, odd ones cosines).
"""

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.position import Position


class Sinusoidal(Position):
    """Raises ValueError if the width is odd. `scale` is what the sines are multiplied with (the paper: 1)."""

    paper = "arXiv:1706.03762"

    def __init__(self, dim: int, heads: int, head_dim: int, *, base: float = 10000.0, scale: float = 1.0):
        super().__init__(dim, heads, head_dim)
        if dim % 2:
            raise ValueError(f"position/sinusoidal adds pairs: the width is even, not {dim}")
        self.dim, self.base, self.scale = dim, base, scale

    def add(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        even = torch.arange(0, self.dim, 2, device=x_BTD.device, dtype=torch.float32)
        angle = layout.position_BT[..., None] * self.base ** (-even / self.dim)
        wave_BTD = torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
        return x_BTD + (self.scale * wave_BTD).to(x_BTD.dtype)
