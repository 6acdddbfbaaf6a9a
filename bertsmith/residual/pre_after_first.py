"""Pre-norm, but for the first layer, whose input the embedding has just normalised: y = x + drop(f(x)) there.

ModernBERT, Warner et al. 2024, arXiv:2412.13663, section 2.1.1; elsewhere y = x + drop(f(norm(x))), Xiong et al. 2020,
arXiv:2002.04745, fig. 1b.
"""

from collections.abc import Callable

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.norm import norm as norms
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class PreAfterFirst(Residual):
    paper = "arXiv:2412.13663"
    example = {"norm": {"kind": "norm/layer"}}

    def __init__(self, dim: int, layer: int, depth: int, *, norm: Spec, dropout: float = 0.0):
        super().__init__(dim, layer, depth)
        self.norm, self.drop = (norm if layer else norms("none")).build(dim), Dropout(dropout)

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.norm(x_BTD, layout)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        return x_BTD + self.drop(f(self.norm(x_BTD, layout)))
