"""Pre-norm with a learned small weight on what is added: y = x + drop(s * f(norm(x))), s [D] starting near 0.

LayerScale, CaiT, Touvron et al. 2021, arXiv:2103.17239, section 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class LayerScale(Residual):
    """`start`: of s; 0: the paper's, 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 for more."""

    paper = "arXiv:2103.17239"
    example = {"norm": {"kind": "norm/layer"}}
    shows = "norm"
    starts = ("scale",)

    def __init__(self, dim: int, layer: int, depth: int, *, norm: Spec, start: float = 0.0, dropout: float = 0.0):
        super().__init__(dim, layer, depth)
        start = start or (0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6)
        self.norm, self.drop = norm.build(dim), Dropout(dropout)
        self.scale = nn.Parameter(torch.full((dim,), start))

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.norm(x_BTD, layout)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        return x_BTD + self.drop(self.scale * f(self.norm(x_BTD, layout)))
