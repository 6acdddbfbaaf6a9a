"""Tokens mixed by pooling: over the document, over its segments and over neighbours, then fused.

PoNet, Tan et al. 2021, arXiv:2110.02442, section 3: g = Attn(mean of h_q, h_k, h_v), one query for the whole document; s, the
maximum of h_s over the token's segment; l, the maximum of h_l over the token and its two neighbours; y = g * h_o + s * h_o + l.
Time and memory grow with the number of tokens, packed or padded.

Segments: `layout.extra["sentence"]`, int64 [B, T], a number per token that changes where a segment ends; where the layout says
nothing, stretches of `segment` tokens from the start of each document.

B rows, T tokens, C documents, D width, N heads, H head width.
"""

import math

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.rows import refuse_see


class PoNet(Mixer):
    paper = "arXiv:2110.02442"
    reads = ("q", "k", "v", "s", "l", "o")

    def __init__(self, dim: int, heads: int, *, segment: int = 32):
        super().__init__(dim, heads)
        if dim % heads or segment < 1:
            raise ValueError(f"mixer/ponet: {heads} heads divide the width {dim}, and segment {segment} is at least 1")
        self.heads, self.segment, self.scale = heads, segment, (dim // heads) ** -0.5
        self.q, self.k, self.v, self.s, self.l, self.o, self.out = (Linear(dim, dim) for _ in range(7))

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BTD, to = source or (x_BTD, layout)
        if to is not layout:
            raise ValueError("mixer/ponet pools tokens of its own layout only: its neighbours have no place elsewhere")
        refuse_see(layout)
        h_BTD = self.o(x_BTD)
        g_BTD = self._document(self.q(x_BTD), self.k(s_BTD), self.v(s_BTD), layout)
        y_BTD = (g_BTD + self._segment(self.s(s_BTD), layout)) * h_BTD + _near(self.l(s_BTD), layout)
        return self.out(y_BTD)

    def _document(self, q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor, layout: Layout) -> Tensor:
        """softmax(g k') v over the document, g its mean of q."""
        real, of = layout.real_BT, layout.document_BT
        split = lambda x: x.unflatten(-1, (self.heads, -1))  # noqa: E731
        one_BT1 = real[..., None].to(q_BTD.dtype)
        g_CD = layout.sum_CD(q_BTD, real) / layout.sum_CD(one_BT1, real).clamp_min(1)
        score_BTN = (split(g_CD[of]) * split(k_BTD)).sum(-1) * self.scale
        score_BTN = torch.where(real[..., None], score_BTN, -math.inf)
        top_CN = score_BTN.new_full((layout.count, self.heads), -math.inf)
        index = of.flatten()[:, None].expand(-1, self.heads)
        top_CN = top_CN.scatter_reduce(0, index, score_BTN.detach().flatten(0, 1), "amax")
        # a document without tokens has no maximum: padding, which stands for it, must not make NaN of the difference
        top_CN = torch.where(top_CN.isinf(), 0, top_CN)
        weight_BTN = (score_BTN - top_CN[of]).exp()
        sum_CD = layout.sum_CD((split(v_BTD) * weight_BTN[..., None]).flatten(2), real)
        all_CN = layout.sum_CD(weight_BTN, real).clamp_min(1)  # at least the weight of the largest, which is 1
        return (split(sum_CD) / all_CN[..., None]).flatten(1)[of]

    def _segment(self, s_BTD: Tensor, layout: Layout) -> Tensor:
        """The maximum over the token's segment."""
        index_BTD = layout.once(("ponet", self.segment), lambda: self._number(layout))[..., None].expand_as(s_BTD)
        top = s_BTD.new_full(s_BTD.shape, -math.inf).scatter_reduce(1, index_BTD, s_BTD, "amax")
        return top.gather(1, index_BTD)

    def _number(self, layout: Layout) -> Tensor:
        """int64 [B, T]: the number of each token's segment in its row."""
        part_BT = layout.extra.get("sentence", layout.position_BT // self.segment)
        before_T = (torch.arange(part_BT.shape[1], device=part_BT.device) - 1).clamp_min(0)
        other = lambda x: x != x[:, before_T]  # noqa: E731
        return (other(part_BT) | other(layout.segment_BT)).long().cumsum(1)


def _near(l_BTD: Tensor, layout: Layout) -> Tensor:
    """The maximum over the token and its neighbours in the document."""
    there_BT1, y_BTD = layout.real_BT[..., None].to(l_BTD.dtype), l_BTD
    for by in (-1, 1):
        other = torch.where(layout.shift(there_BT1, by) > 0, layout.shift(l_BTD, by), -math.inf)
        y_BTD = torch.maximum(y_BTD, other)
    return y_BTD
