"""Rotary positions: q and k are turned by angles p theta_i, theta_i = base^(-2i / H), so that q k' knows the distance.

RoFormer, Su et al. 2021, arXiv:2104.09864, eq. 34.

Differs from the paper: the pairs that are turned are (x_i, x_(i + H/2)), as in GPT-NeoX and ModernBERT, not
(x_2i, x_(2i + 1)): the same up to a permutation of the rows of W_q and W_k.
"""

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.position import Position


class Rope(Position):
    """Raises ValueError if the width of a head is odd."""

    paper = "arXiv:2104.09864"

    def __init__(self, dim: int, heads: int, head_dim: int, *, base: float = 10000.0):
        super().__init__(dim, heads, head_dim)
        if head_dim % 2:
            raise ValueError(f"position/rope turns pairs: the width of a head is even, not {head_dim}")
        self.head_dim, self.base = head_dim, base

    def prepare(self, layout: Layout) -> None:
        self._turns(layout)

    def rotate(self, x_BNTH: Tensor, layout: Layout) -> Tensor:
        cos_B1TH, sin_B1TH = self._turns(layout)
        a, b = x_BNTH.float().chunk(2, -1)
        return (x_BNTH * cos_B1TH + torch.cat([-b, a], -1) * sin_B1TH).to(x_BNTH.dtype)

    def _turns(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """(cos, sin) of every token's angles in float32; made once a pass for all layers with this base and width."""

        def make() -> tuple[Tensor, Tensor]:
            even = torch.arange(0, self.head_dim, 2, device=layout.position_BT.device, dtype=torch.float32)
            angle = layout.position_BT[:, None, :, None] * self.base ** (-even / self.head_dim)
            angle = torch.cat([angle, angle], -1)
            return angle.cos(), angle.sin()

        return layout.once(("rope", self.base, self.head_dim), make)
