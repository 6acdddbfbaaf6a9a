"""Relative positions of Transformer-XL, and XLNet's relative segments: terms of the scores that know no absolute place.

    score_ij = [u k_j  +  (q_i + v) W_r R(p_i - p_j)  +  (q_i + w) s_same(i, j)] / sqrt(H),   R(d) = [sin(d f), cos(d f)]

beside q_i k_j, with f_m = base^(-2m / D); s has one vector for tokens of one type and one for tokens of two.

Transformer-XL, Dai et al. 2019, arXiv:1901.02860, section 3.3; segments: XLNet, Yang et al. 2019, arXiv:1906.08237, section
2.5; `apart`: Funnel-Transformer, Dai et al. 2020, arXiv:2006.03236, section 2.4 (its code).

Differs from the paper: distances are told apart up to as many tokens as are read (or `reach`), so that the table of R has a
size that no data decides; farther ones count as that far. An encoder that thins tokens out says in
`layout.scratch["reach"]` how far apart they may lie. Dropout of R is one draw for all rows of a batch.

B rows, N heads, T tokens, S tokens read, H head width, D width, R distances.
"""

import torch
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding, Linear
from bertsmith.position import Position


class TransformerXL(Position):
    """Settings: `types`, whether there is a term of the types; `reach`, the largest distance that is told apart (0: all that
    there are; XLNet's clamp_len); `dropout` of R; `apart`, whether pairs with a document's first token have only u k_j.
    """

    paper = "arXiv:1901.02860"

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int,
        *,
        types: bool = False,
        base: float = 10000.0,
        reach: int = 0,
        dropout: float = 0.0,
        apart: bool = False,
    ):
        super().__init__(dim, heads, head_dim)
        if dim % 2:
            raise ValueError(f"position/transformer_xl makes pairs of sines: the width is even, not {dim}")
        self.dim, self.heads, self.base, self.reach, self.apart = dim, heads, base, reach, apart
        start = lambda: nn.Parameter(0.02 * torch.randn(heads, head_dim, generator=kernels.generator()))  # noqa: E731
        self.r, self.u, self.v = Linear(dim, heads * head_dim, bias=False), start(), start()
        self.w, self.s = (start(), Embedding(2, heads * head_dim)) if types else (None, None)
        self.drop = Dropout(dropout)

    def prepare(self, layout: Layout) -> None:
        self._waves(layout, layout)

    def score(self, q_BNTH: Tensor, k_BNSH: Tensor, layout: Layout, to: Layout, project: object) -> Tensor:
        wave_RD = self._waves(layout, to).to(q_BNTH.dtype)
        far = wave_RD.shape[0] // 2
        r_NHR = self.r(wave_RD).unflatten(-1, (self.heads, -1)).permute(1, 2, 0)
        where_BTS = layout.distance_BTT(to).clamp(-far, far) + far
        score = ((q_BNTH + self.v[:, None]) @ r_NHR).gather(-1, where_BTS[:, None].expand(-1, self.heads, -1, -1))
        if self.s is not None and self.w is not None:
            s_NH2 = self.s.edited()[0].unflatten(-1, (self.heads, -1)).permute(1, 2, 0)
            same, other = ((q_BNTH + self.w[:, None]) @ s_NH2).split(1, -1)
            one, two = (torch.zeros_like(x.position_BT) if x.type_BT is None else x.type_BT for x in (layout, to))
            score = score + torch.where((one[:, :, None] == two[:, None])[:, None], same, other)
        if self.apart:
            first_BTS = (layout.position_BT[:, :, None] <= 0) | (to.position_BT[:, None] <= 0)
            score = score.masked_fill(first_BTS[:, None], 0)
        return (score + self.u[:, None] @ k_BNSH.transpose(-1, -2)) * q_BNTH.shape[-1] ** -0.5

    def _waves(self, layout: Layout, to: Layout) -> Tensor:
        """R of every distance from the least to the largest, in float32; made once a pass for all layers that say the same."""
        T, S = layout.position_BT.shape[1], to.position_BT.shape[1]
        far = self.reach or layout.scratch.get("reach", T if to is layout else T + S)

        def make() -> Tensor:
            even = torch.arange(0, self.dim, 2, device=layout.position_BT.device, dtype=torch.float32)
            distance = torch.arange(-far, far + 1, device=even.device)[:, None]
            angle = distance * self.base ** (-even / self.dim)
            return self.drop(torch.cat([angle.sin(), angle.cos()], -1))

        return layout.once(("transformer_xl", self.dim, self.base, self.reach, self.drop.p, id(to)), make)
