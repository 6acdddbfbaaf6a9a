"""Multi-head softmax attention, softmax(Q K' / sqrt(H)) V.

Vaswani et al. 2017, arXiv:1706.03762, eq. 1; `window` as in Longformer, Beltagy et al. 2020, arXiv:2004.05150.

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

import torch
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.position import position as positions
from bertsmith.spec import Spec


class Core(nn.Module):
    """The inner product, a module so that it has a path: prefixes, head masks, value mixing and probes sit here."""

    def __init__(self, heads: int, head_dim: int, dropout: float):
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        return kernels.attention(q_BNTH, k_BNSH, v_BNSH, mask, scale, self.dropout if self.training else 0.0)


class Attention(Mixer):
    """Settings: `heads` and `head_dim` of its own where they differ from the encoder's (0: the encoder's)."""

    paper = "arXiv:1706.03762"
    reads = ("q", "k", "v")

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        position: Spec | None = None,
        bias: bool = True,
        out_bias: bool = True,
        dropout: float = 0.0,
        window: int = 0,
        own_heads: int = 0,
        head_dim: int = 0,
    ):
        super().__init__(dim, heads)
        if not head_dim and dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} heads: choose other heads or say head_dim")
        self.head_dim, heads, self.window = head_dim or dim // heads, own_heads or heads, window
        wide = self.head_dim * heads
        self.q, self.k, self.v = (Linear(dim, wide, bias) for _ in range(3))
        self.out = Linear(wide, dim, out_bias)
        self.position = (position or positions("none")).build(dim, heads, self.head_dim)
        self.core = Core(heads, self.head_dim, dropout)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        split = lambda linear: lambda x: linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # noqa: E731
        to_q, to_k, to_v = split(self.q), split(self.k), split(self.v)
        q_BNTH, k_BNSH, v_BNSH = to_q(x_BTD), to_k(s_BSD), to_v(s_BSD)
        mask = layout.mask_B1TT(self.window, to if source else None)
        score = self.position.score(q_BNTH, k_BNSH, layout, to, (to_q, to_k))
        if score is not None:
            least = torch.finfo(score.dtype).min
            mask = (score if mask is None else torch.where(mask, score, least)).to(q_BNTH.dtype)
        q_BNTH, k_BNSH = self.position.rotate(q_BNTH, layout), self.position.rotate(k_BNSH, to)
        y_BNTH = self.core(q_BNTH, k_BNSH, v_BNSH, mask, (self.head_dim * self.position.terms) ** -0.5, layout)
        return self.out(y_BNTH.transpose(1, 2).flatten(2))
