"""A feed-forward on every token, then a pool: y = pool(f(x)).

EuroBERT, Boizard et al. 2025, arXiv:2503.05500 (its code, "late" pooling).

Differs from the reference: a linear layer on the mean of the tokens stands for the mean of the linear layer's outputs,
which is the same number.
"""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.pool import Pool
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec


class Late(Pool):
    """`pool` None: the mean."""

    paper = "arXiv:2503.05500"
    example = {"transform": {"kind": "ffn/dense"}}

    def __init__(self, dim: int, *, transform: Spec, pool: Spec | None = None):
        super().__init__(dim)
        self.transform, self.pool = transform.build(dim), (pool or pools("mean")).build(dim)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.pool(self.transform(x_BTD, layout), layout)
