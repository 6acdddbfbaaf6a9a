"""Attention between points of a sphere: unit weights, q and k of norm 1 times a learned s, softmax(sqrt(H) q k') v.

nGPT, Loshchilov et al. 2024, arXiv:2410.01131, section 2.3, eq. 15 and 16: q := s Norm(q), k := s Norm(k), turned before.

Differs from the paper: the weights have norm 1 as they are read, where the paper sets them back after every step.

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.attend import attend, check, merge, split
from bertsmith.core import Core
from bertsmith.core import core as cores
from bertsmith.layout import Layout
from bertsmith.linear import UnitLinear
from bertsmith.mixer import Mixer
from bertsmith.position import position as positions
from bertsmith.spec import Spec


class NGPTAttention(Mixer):
    """No biases. The parameter `s` is stored times 1 / sqrt(D), which is its pace of learning (section 2.5)."""

    paper = "arXiv:2410.01131"
    starts = ("s",)

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        position: Spec | None = None,
        dropout: float = 0.0,
        window: int = 0,
        core: Spec | None = None,
    ):
        super().__init__(dim, heads)
        if dim % heads:
            raise ValueError(f"mixer/ngpt: width {dim} is not a multiple of {heads} heads: choose other heads")
        self.head_dim, self.window, self.gain = dim // heads, window, dim**0.5
        self.q, self.k, self.v = (UnitLinear(dim, dim, axis=1) for _ in range(3))
        self.out, self.s = UnitLinear(dim, dim, axis=0), nn.Parameter(torch.full((dim,), 1 / self.gain))
        self.position = (position or positions("none")).build(dim, heads, self.head_dim)
        self.core: Core = (core or cores("softmax")).build(heads, self.head_dim, dropout)
        check(self.position, self.core, window)
        self.scale = (self.head_dim / self.position.terms) ** 0.5

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        q, k, v = (split(linear, self.head_dim) for linear in (self.q, self.k, self.v))
        s_N1H = (self.s * self.gain).unflatten(0, (-1, 1, self.head_dim))
        unit = lambda x_BNTH: s_N1H * F.normalize(x_BNTH, dim=-1)  # noqa: E731
        y_BNTH = attend(
            x_BTD, layout, source, (q, k, v), self.position, self.core, self.scale, self.window, finish=unit
        )
        return self.out(merge(y_BNTH))
