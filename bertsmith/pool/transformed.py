"""A pool, then a feed-forward on its one vector: y = f(pool(x)).

ModernBERT, Warner et al. 2024, arXiv:2412.13663 (its code's prediction head, on the first token or on the mean).

C documents in the batch, D width.
"""

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.pool import Pool
from bertsmith.pool import pool as pools
from bertsmith.spec import Spec


class Transformed(Pool):
    """`pool` None: the first token."""

    paper = "arXiv:2412.13663"
    example = {"transform": {"kind": "ffn/dense"}}

    def __init__(self, dim: int, *, transform: Spec, pool: Spec | None = None):
        super().__init__(dim)
        self.pool, self.transform = (pool or pools("first")).build(dim), transform.build(dim)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        y_1CD = self.pool(x_BTD, layout)[None]
        # to the feed-forward the documents are the tokens of one row
        return self.transform(y_1CD, Layout.padded(torch.ones_like(y_1CD[..., 0])))[0]
