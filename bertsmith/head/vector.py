"""A pool alone: one vector per document, with nothing trained on top.

Sentence-BERT, Reimers & Gurevych 2019, arXiv:1908.10084, fig. 2; with `pool/bert`, the pooler output of BERT.
"""

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.spec import Spec


class VectorHead(Head):
    paper = "arXiv:1908.10084"
    example = {"pool": {"kind": "pool/mean"}}

    def __init__(self, encoder: Encoder, labels: int, *, pool: Spec):
        super().__init__(encoder, labels)
        self.pool = pool.build(encoder.dim)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.pool(x_BTD, layout)
