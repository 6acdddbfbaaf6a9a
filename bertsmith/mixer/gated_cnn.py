"""No attention: a convolution over the places around a token, gated by another.

    y_t = (sum_j A_j x_(t+j) + a) * sigmoid(sum_j B_j x_(t+j) + b),   |j| <= kernel // 2,   x beyond the document is 0

Dauphin et al. 2016, Language Modeling with Gated Convolutional Networks, arXiv:1612.08083, equation 1; reading both sides, as
the convolutional encoder in UER does (Zhao et al. 2019, arXiv:1909.05658).
"""

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer


class GatedCNN(Mixer):
    """`kernel`: how many places, odd. `heads` has no meaning here."""

    paper = "arXiv:1612.08083"

    def __init__(self, dim: int, heads: int, *, kernel: int = 3):
        super().__init__(dim, heads)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"a kernel of {kernel} places has no middle: choose an odd number")
        self.reach, self.conv = kernel // 2, Linear(kernel * dim, 2 * dim)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        if s_BSD.shape[1] != x_BTD.shape[1]:
            raise ValueError(
                f"mixer/gated_cnn reads a source of the same {x_BTD.shape[1]} tokens, not of {s_BSD.shape[1]}"
            )
        span_BTJ = torch.cat([to.shift(s_BSD, j) for j in range(-self.reach, self.reach + 1)], -1)
        value_BTD, gate_BTD = self.conv(span_BTJ).chunk(2, -1)
        return value_BTD * gate_BTD.sigmoid()
