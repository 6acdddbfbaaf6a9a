"""A norm before and one after: y = x + drop(norm'(f(norm(x)))).  What is added to the stream has a bounded size.

Sandwich-LN, CogView, Ding et al. 2021, arXiv:2105.13290, section 2.4. Peri-LN, Kim et al. 2025, arXiv:2502.02732,
is the same with norms after the embedding and after the last layer, which are the encoder's settings; it is known
here as residual/peri too.
"""

from collections.abc import Callable

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.residual import Residual
from bertsmith.spec import Spec


class Sandwich(Residual):
    """`out_norm`: the norm after f; None: of the same kind as `norm`, with weights of its own."""

    paper = "arXiv:2105.13290"
    example = {"norm": {"kind": "norm/layer"}}

    def __init__(
        self, dim: int, layer: int, depth: int, *, norm: Spec, out_norm: Spec | None = None, dropout: float = 0.0
    ):
        super().__init__(dim, layer, depth)
        self.norm, self.out_norm, self.drop = norm.build(dim), (out_norm or norm).build(dim), Dropout(dropout)
        self.shows = "norm" if out_norm else ""  # said once for both, it is not to be replaced in one place

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.norm(x_BTD, layout)

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        return x_BTD + self.drop(self.out_norm(f(self.norm(x_BTD, layout)), layout))
