"""Attention whose projections work in groups: each output sees one part of the width only, with 1 / groups of the weights.

SqueezeBERT, Iandola et al. 2020, arXiv:2006.11316 (grouped convolutions of width 1).

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

from torch import Tensor

from bertsmith.attend import attend, check, merge, split
from bertsmith.core import Core
from bertsmith.core import core as cores
from bertsmith.layout import Layout
from bertsmith.linear import GroupedLinear
from bertsmith.mixer import Mixer
from bertsmith.position import position as positions
from bertsmith.spec import Spec


class GroupedAttention(Mixer):
    """Settings: how many groups each projection has; 1 is the usual one."""

    paper = "arXiv:2006.11316"

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        q_groups: int = 4,
        k_groups: int = 4,
        v_groups: int = 4,
        out_groups: int = 1,
        position: Spec | None = None,
        dropout: float = 0.0,
        core: Spec | None = None,
    ):
        super().__init__(dim, heads)
        if dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} heads: choose other heads")
        self.head_dim = dim // heads
        self.q, self.k, self.v, self.out = (
            GroupedLinear(dim, dim, groups) for groups in (q_groups, k_groups, v_groups, out_groups)
        )
        self.position = (position or positions("none")).build(dim, heads, self.head_dim)
        self.core: Core = (core or cores("softmax")).build(heads, self.head_dim, dropout)
        check(self.position, self.core)
        self.scale = (self.head_dim * self.position.terms) ** -0.5

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        q, k, v = (split(linear, self.head_dim) for linear in (self.q, self.k, self.v))
        return self.out(merge(attend(x_BTD, layout, source, (q, k, v), self.position, self.core, self.scale)))
