"""Two texts read apart, and labels of the pair: W [u ; v ; |u - v|] + b of their vectors.

Sentence-BERT, Reimers & Gurevych 2019, arXiv:1908.10084, section 3 (classification objective). What is made of one text does
not depend on the other, so that vectors may be kept; `head/linear` on both as one text sees more, and is slower.

B rows (pairs), D width.
"""

import torch
from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear
from bertsmith.pool import pool as pools
from bertsmith.pooling import ends
from bertsmith.spec import Spec


class Siamese(Head):
    """`pool` makes u of the first document of each row and v of the last; None: the mean."""

    paper = "arXiv:1908.10084"
    each = "row"
    apart = True

    def __init__(self, encoder: Encoder, labels: int, *, pool: Spec | None = None, dropout: float = 0.0):
        super().__init__(encoder, labels)
        self.pool, self.drop = (pool or pools("mean")).build(encoder.dim), Dropout(dropout)
        self.out = Linear(3 * encoder.dim, labels)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        u_BD, v_BD = ends(self.pool(x_BTD, layout), layout)
        return self.out(self.drop(torch.cat([u_BD, v_BD, (u_BD - v_BD).abs()], -1)))
