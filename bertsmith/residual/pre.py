"""Pre-norm: y = x + drop(f(norm(x))).  Xiong et al. 2020, arXiv:2002.04745, fig. 1b."""

from collections.abc import Callable

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class Pre(Residual):
    paper = "arXiv:2002.04745"
    example = {"norm": {"kind": "norm/layer"}}
    shows = "norm"

    def __init__(self, dim: int, layer: int, depth: int, *, norm: Spec, dropout: float = 0.0):
        super().__init__(dim, layer, depth)
        self.norm, self.drop = norm.build(dim), Dropout(dropout)

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.norm(x_BTD, layout)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        return x_BTD + self.drop(f(self.norm(x_BTD, layout)))
