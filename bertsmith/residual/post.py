"""Post-norm: y = norm(x + drop(f(x))).  Vaswani et al. 2017, arXiv:1706.03762, section 3.1."""

from collections.abc import Callable

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class Post(Residual):
    paper = "arXiv:1706.03762"
    example = {"norm": {"kind": "norm/layer"}}

    def __init__(self, dim: int, layer: int, depth: int, *, norm: Spec, dropout: float = 0.0):
        super().__init__(dim, layer, depth)
        self.norm, self.drop = norm.build(dim), Dropout(dropout)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        return self.norm(x_BTD + self.drop(f(x_BTD)), layout)
