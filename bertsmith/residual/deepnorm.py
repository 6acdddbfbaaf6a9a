"""Post-norm with a heavier stream: y = norm(a x + drop(f(x))), a = (2 N)^(1/4) for an encoder of N layers.

DeepNet, Wang et al. 2022, arXiv:2203.00555, section 2 and fig. 2; its weights start as init/deepnorm says.
"""

from collections.abc import Callable

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class DeepNorm(Residual):
    """`alpha`: the weight a of the stream; 0: the paper's, for the encoder's depth."""

    paper = "arXiv:2203.00555"
    example = {"norm": {"kind": "norm/layer"}}

    def __init__(self, dim: int, layer: int, depth: int, *, norm: Spec, alpha: float = 0.0, dropout: float = 0.0):
        super().__init__(dim, layer, depth)
        self.norm, self.drop, self.alpha = norm.build(dim), Dropout(dropout), alpha or (2 * depth) ** 0.25

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        return self.norm(self.alpha * x_BTD + self.drop(f(x_BTD)), layout)
