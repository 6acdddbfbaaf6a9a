"""One linear layer on every token: logits [B, T, labels].  BERT, Devlin et al. 2018, arXiv:1810.04805, section 5.3."""

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear


class TokenHead(Head):
    paper = "arXiv:1810.04805"

    def __init__(self, encoder: Encoder, labels: int, *, dropout: float = 0.1):
        super().__init__(encoder, labels)
        self.drop, self.out = Dropout(dropout), Linear(encoder.dim, labels)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.out(self.drop(x_BTD))
