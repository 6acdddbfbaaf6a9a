"""Multi-head softmax attention, softmax(Q K' / sqrt(H)) V.

Vaswani et al. 2017, arXiv:1706.03762, eq. 1; `window` as in Longformer, Beltagy et al. 2020, arXiv:2004.05150.

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

import torch
from torch import Tensor

from bertsmith.core import Core
from bertsmith.core import core as cores
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.position import Position
from bertsmith.position import position as positions
from bertsmith.spec import Spec


class Attention(Mixer):
    """Settings: `own_heads` and `head_dim` where they differ from the encoder's (0: the encoder's); `kv_heads`, fewer heads
    for keys and values (Ainslie et al. 2023, arXiv:2305.13245; 0: as many); `scale` of q k' (0: 1 / sqrt(head_dim)); `core`,
    what is done with q, k and v (softmax where it is None).
    """

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
        kv_heads: int = 0,
        scale: float = 0.0,
        core: Spec | None = None,
    ):
        super().__init__(dim, heads)
        if not head_dim and dim % heads:
            raise ValueError(f"width {dim} is not a multiple of {heads} heads: choose other heads or say head_dim")
        self.head_dim, heads, self.window = head_dim or dim // heads, own_heads or heads, window
        if kv_heads and heads % kv_heads:
            raise ValueError(f"{heads} heads cannot share {kv_heads} heads of keys and values: say a divisor")
        self.group = heads // (kv_heads or heads)
        wide, wide_kv = self.head_dim * heads, self.head_dim * (kv_heads or heads)
        self.q, self.k, self.v = Linear(dim, wide, bias), Linear(dim, wide_kv, bias), Linear(dim, wide_kv, bias)
        self.out = Linear(wide, dim, out_bias)
        self.position = (position or positions("none")).build(dim, heads, self.head_dim)
        self.core: Core = (core or cores("softmax")).build(heads, self.head_dim, dropout)
        if not self.core.dense and (window or type(self.position).score is not Position.score):
            raise ValueError(
                "this core takes neither a window nor a position that adds to the scores: choose another core"
            )
        self.scale = scale or (self.head_dim * self.position.terms) ** -0.5

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        split = lambda linear: lambda x: linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # noqa: E731
        spread = lambda linear: lambda x: split(linear)(x).repeat_interleave(self.group, 1)  # noqa: E731
        to_q, to_k, to_v = split(self.q), *((split if self.group == 1 else spread)(x) for x in (self.k, self.v))
        q_BNTH, k_BNSH, v_BNSH = to_q(x_BTD), to_k(s_BSD), to_v(s_BSD)
        if source is not None and not self.core.dense:
            raise ValueError("this core reads its own row only, so that it cannot read another source")
        mask = layout.mask_B1TT(self.window, to if source else None) if self.core.dense else None
        score = self.position.score(q_BNTH, k_BNSH, layout, to, (to_q, to_k))
        if score is not None:
            least = torch.finfo(score.dtype).min
            mask = (score if mask is None else torch.where(mask, score, least)).to(q_BNTH.dtype)
        q_BNTH, k_BNSH = self.position.rotate(q_BNTH, layout), self.position.rotate(k_BNSH, to)
        y_BNTH = self.core(q_BNTH, k_BNSH, v_BNSH, mask, self.scale, layout)
        return self.out(y_BNTH.transpose(1, 2).flatten(2))
