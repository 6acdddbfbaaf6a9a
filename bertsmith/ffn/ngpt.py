"""A gated unit with unit weights: W_down (s_u (W_up x) * SiLU(s_v sqrt(D) (W_gate x))), s_u and s_v learned, D the width.

nGPT, Loshchilov et al. 2024, arXiv:2410.01131, section 2.4, eq. 20 and 21: sqrt(D) puts the products of unit vectors back to
where SiLU bends.

Differs from the paper: the weights have norm 1 as they are read, where the paper sets them back after every step.
"""

import torch
from torch import Tensor, nn

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import UnitLinear
from bertsmith.spec import Spec


class NGPTGated(FFN):
    """No biases. Its outputs have any length; `residual/ngpt` gives them the one that counts."""

    paper = "arXiv:2410.01131"
    example = {"hidden": 24}

    def __init__(self, dim: int, *, hidden: int, act: Spec | str = "silu"):
        super().__init__(dim)
        self.gate, self.up = UnitLinear(dim, hidden, axis=1), UnitLinear(dim, hidden, axis=1)
        self.down, self.act, self.gain = UnitLinear(hidden, dim, axis=0), build_act(act), dim**0.5
        self.s_up, self.s_gate = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.ones(hidden))

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        gate = self.act(self.s_gate * self.gain * self.gate(x_BTD))
        return self.down(self.s_up * self.up(x_BTD) * gate)
