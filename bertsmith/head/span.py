"""Start and end of an answer: two logits on every token, [B, T, 2].

BERT, Devlin et al. 2018, arXiv:1810.04805, section 4.2.
"""

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear


class SpanHead(Head):
    """`labels` is not asked: there are two. Softmax goes over the tokens of a document."""

    paper = "arXiv:1810.04805"

    def __init__(self, encoder: Encoder, labels: int, *, dropout: float = 0.0):
        super().__init__(encoder, labels)
        self.drop, self.out = Dropout(dropout), Linear(encoder.dim, 2)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.out(self.drop(x_BTD))
