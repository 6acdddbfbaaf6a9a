"""Windowed attention, and a few marked tokens that read all of their document and that all of it reads.

Beltagy et al. 2020, arXiv:2004.05150, section 3.1 ("global attention", "linear projections for global attention"): a marked
token reads with projections of its own, q_global, k_global, v_global. Time and memory are T * (window + marks).

Which tokens: `layout.extra["global"]`, bool [B, T]. Where the layout says nothing, the first token of each document if `first`,
else none.

B rows, T tokens, D width, N heads, H head width, G the most marked tokens in a row.
"""

import math

import torch
from torch import Tensor

from bertsmith import kernels
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.rows import windowed


class Longformer(Mixer):
    """Settings: `window`, the tokens read beside oneself, half on each side; `first`; `most`, the places for marked tokens in a
    row under a compiler, which cannot count them: a row with more comes out as NaN there.
    """

    paper = "arXiv:2004.05150"
    reads = ("q", "k", "v", "q_global", "k_global", "v_global")
    example = {"window": 4, "first": True}

    def __init__(self, dim: int, heads: int, *, window: int, first: bool = False, most: int = 64, dropout: float = 0.0):
        super().__init__(dim, heads)
        if dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} heads: choose other heads")
        if window < 2 or window % 2:
            raise ValueError(f"mixer/longformer: the window is an even number of tokens, at least 2, not {window}")
        self.heads, self.reach, self.first, self.most, self.dropout = heads, window // 2, first, most, dropout
        self.q, self.k, self.v, self.out = (Linear(dim, dim) for _ in range(4))
        self.q_global, self.k_global, self.v_global = (Linear(dim, dim) for _ in range(3))
        self.scale = (dim // heads) ** -0.5

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BTD, to = source or (x_BTD, layout)
        if to is not layout:
            raise ValueError("mixer/longformer reads tokens of its own layout only: its window has no place elsewhere")
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        p = self.dropout if self.training else 0.0
        q, k, v = split(self.q(x_BTD)), split(self.k(s_BTD)), split(self.v(s_BTD))
        mark_BT, place_BG, there_BG = layout.once(("longformer", self.first, self.most), lambda: self._marks(layout))
        gather = lambda x, dim: x.gather(dim, _index(place_BG, x, dim))  # noqa: E731
        segment_BG = torch.where(there_BG, layout.segment_BT.gather(1, place_BG), -1)
        may_BTG = layout.segment_BT[:, :, None] == segment_BG[:, None, :]
        everywhere = (gather(k, 2), gather(v, 2), may_BTG, mark_BT)
        y_BTD = windowed(q, k, v, layout, self.reach, self.scale, p, everywhere).transpose(1, 2).flatten(2)

        q, k, v = split(self.q_global(gather(x_BTD, 1))), split(self.k_global(s_BTD)), split(self.v_global(s_BTD))
        # a place without a token reads all, so that its softmax is not empty; it is thrown away
        may_B1GT = (may_BTG.transpose(1, 2) | ~there_BG[..., None])[:, None]
        g_BGD = kernels.attention(q, k, v, may_B1GT, self.scale, p).transpose(1, 2).flatten(2)
        T = x_BTD.shape[1]
        to_BG = torch.where(there_BG, place_BG, T)
        y_BTD = torch.cat([y_BTD, torch.zeros_like(y_BTD[:, :1])], 1)
        y_BTD = y_BTD.scatter(1, _index(to_BG, g_BGD, 1), g_BGD.to(y_BTD.dtype))[:, :T]
        if torch.compiler.is_compiling():
            y_BTD = torch.where((mark_BT.sum(1) > self.most)[:, None, None], math.nan, y_BTD)
        return self.out(y_BTD)

    def _marks(self, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """(mark_BT, place_BG, there_BG): which tokens are global, where they stand, and which of the G places are used."""
        none = torch.zeros_like(layout.real_BT)
        mark_BT = layout.extra.get("global", layout.position_BT == 0 if self.first else none).bool() & layout.real_BT
        compiled = torch.compiler.is_compiling()
        G = self.most if compiled else max(1, int(mark_BT.sum(1).amax()))
        rank_BT = mark_BT.cumsum(1) - 1
        slot_BT = torch.where(mark_BT & (rank_BT < G), rank_BT, G)  # the last slot takes what has no place
        T_BT = torch.arange(mark_BT.shape[1], device=mark_BT.device).expand_as(slot_BT)
        place_BG = slot_BT.new_zeros(slot_BT.shape[0], G + 1).scatter(1, slot_BT, T_BT)[:, :G]
        there_BG = torch.arange(G, device=mark_BT.device) < mark_BT.sum(1, keepdim=True)
        return mark_BT, place_BG, there_BG


def _index(place_BG: Tensor, x: Tensor, dim: int) -> Tensor:
    """The places as `gather` along `dim` (1 of 3, or 2 of 4) wants them: as large as what comes out."""
    if dim == 1:
        return place_BG[..., None].expand(-1, -1, x.shape[-1])
    return place_BG[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[-1])
