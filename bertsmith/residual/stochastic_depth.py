"""Whole residuals are left out at random, the later the layer the more often: y = x + b / p (inner(x, f) - x).

Huang et al. 2016, arXiv:1603.09382, eq. 2 with b ~ Bernoulli(p), and eq. 4: p = 1 - l / N (1 - p_N) in layer l of N,
from 1. `inner` is any residual: where b is 0, x passes as it is.

Differs from the paper: b is drawn for each document (there for each batch), so that no computation is saved, and a
document's is the same however documents are packed; divided by p in training (there multiplied by p in evaluation,
eq. 5), so that the trained encoder is an ordinary one of the inner residual.

B rows, T tokens, D width, C documents.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bertsmith import kernels
from bertsmith.layout import Layout
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class StochasticDepth(Residual):
    """`rate` = 1 - p_N: how often the last layer is left out."""

    paper = "arXiv:1603.09382"
    example = {"inner": {"kind": "residual/pre", "norm": {"kind": "norm/layer"}}}

    def __init__(self, dim: int, layer: int, depth: int, *, inner: Spec, rate: float = 0.1):
        super().__init__(dim, layer, depth)
        if not 0 <= rate < 1:
            raise ValueError(f"residual/stochastic_depth: rate lies in [0, 1), not {rate}")
        built: Residual = inner.build(dim, layer, depth)
        self.inner, self.keep = built, 1 - (layer + 1) / depth * rate
        self.shows = built.shows and f"inner.{built.shows}"

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.inner.view(x_BTD, layout)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        y_BTD = self.inner(x_BTD, f, layout)
        if not self.training or self.keep == 1:
            return y_BTD
        drawn_C = torch.rand(max(layout.count, 1), generator=kernels.generator()) < self.keep
        gain_BT1 = drawn_C.to(x_BTD)[layout.document_BT][..., None] / self.keep
        return x_BTD + gain_BT1 * (y_BTD - x_BTD)
