"""Gated linear unit: W_down (act(W_gate x) * (W_up x)).

Shazeer 2020, arXiv:2002.05202, eq. 6 (GEGLU, the default, as in ModernBERT; ReGLU, SwiGLU and
the bilinear form beside it) and eq. 5 with `act="sigmoid"` (GLU, Dauphin et al. 2016, arXiv:1612.08083).
"""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear
from bertsmith.spec import Spec


class GLU(FFN):
    """`bias` is that of the two inner layers, `out_bias` that of the outer one; the paper has none. `dropout` is on what
    the outer one reads (T5, ModernBERT)."""

    paper = "arXiv:2002.05202"
    reads = ("gate", "up")
    example = {"hidden": 24}

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        act: Spec | str = "gelu",
        bias: bool = False,
        out_bias: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__(dim)
        self.gate, self.up = Linear(dim, hidden, bias), Linear(dim, hidden, bias)
        self.down = Linear(hidden, dim, out_bias)
        self.act, self.drop = build_act(act), Dropout(dropout)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.down(self.drop(self.act(self.gate(x_BTD)) * self.up(x_BTD)))
