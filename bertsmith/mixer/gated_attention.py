"""Attention whose heads have a gate each, opened by the token that reads: y = sigmoid(w_n x_n + b_n) head_n.

Quantizable Transformers, Bondarenko et al. 2023, arXiv:2306.12929, eq. 5 and 6 (the linear gate: x_n is head n's part of the
layer's input). A head does nothing by closing its gate, which needs no outliers.

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

import math

import torch
from torch import Tensor

from bertsmith.attend import attend, check, merge, split
from bertsmith.core import Core
from bertsmith.core import core as cores
from bertsmith.layout import Layout
from bertsmith.linear import GroupedLinear, Linear
from bertsmith.mixer import Mixer
from bertsmith.position import position as positions
from bertsmith.spec import Spec


class GatedAttention(Mixer):
    """`start`: how far the gates are open at first, in (0, 1). The gates read the input in groups, so no norm is folded."""

    paper = "arXiv:2306.12929"
    starts = ("gate.bias",)

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
        core: Spec | None = None,
        start: float = 0.5,
    ):
        super().__init__(dim, heads)
        if dim % heads:
            raise ValueError(
                f"mixer/gated_attention: width {dim} is not a multiple of {heads} heads: choose other heads"
            )
        if not 0 < start < 1:
            raise ValueError(f"mixer/gated_attention: start lies between 0 and 1, not at {start}")
        self.head_dim, self.window = dim // heads, window
        self.q, self.k, self.v = Linear(dim, dim, bias), Linear(dim, dim, bias), Linear(dim, dim, bias)
        self.out, self.gate = Linear(dim, dim, out_bias), GroupedLinear(dim, heads, heads)
        if self.gate.bias is not None:
            torch.nn.init.constant_(self.gate.bias, math.log(start / (1 - start)))
        self.position = (position or positions("none")).build(dim, heads, self.head_dim)
        self.core: Core = (core or cores("softmax")).build(heads, self.head_dim, dropout)
        check(self.position, self.core, window)
        self.scale = (self.head_dim * self.position.terms) ** -0.5

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        q, k, v = (split(linear, self.head_dim) for linear in (self.q, self.k, self.v))
        y_BNTH = attend(x_BTD, layout, source, (q, k, v), self.position, self.core, self.scale, self.window)
        open_BNT1 = self.gate(x_BTD).sigmoid().transpose(1, 2)[..., None]
        return self.out(merge(y_BNTH * open_BNT1))
