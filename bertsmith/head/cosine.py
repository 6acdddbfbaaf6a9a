"""Two texts read apart, and a line through the cosine of their vectors: a cos(u, v) + b, for a number or for each label.

Sentence-BERT, Reimers & Gurevych 2019, arXiv:1908.10084, section 3 (regression objective), which compares the
cosine itself with a number between -1 and 1. Here a and b are learnt, so that the numbers may have any unit, and labels do too.

B rows (pairs), D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.pool import pool as pools
from bertsmith.pooling import ends
from bertsmith.spec import Spec


class Cosine(Head):
    """`pool` makes u of the first document of each row and v of the last; None: the mean. a starts at 1, b at 0."""

    paper = "arXiv:1908.10084"
    each = "row"
    apart = True
    starts = ("slope", "shift")

    def __init__(self, encoder: Encoder, labels: int, *, pool: Spec | None = None):
        super().__init__(encoder, labels)
        self.pool = (pool or pools("mean")).build(encoder.dim)
        self.slope, self.shift = nn.Parameter(torch.ones(labels)), nn.Parameter(torch.zeros(labels))

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        u_BD, v_BD = (y.float() for y in ends(self.pool(x_BTD, layout), layout))
        return (self.slope * F.cosine_similarity(u_BD, v_BD)[:, None] + self.shift).to(x_BTD.dtype)
