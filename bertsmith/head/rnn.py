"""A bidirectional LSTM over the states of a document, then one linear layer on every token: logits [B, T, labels].

The recurrent layer on BERT for named entities and slots, Friedrich et al. 2020, The SOFC-Exp Corpus, arXiv:2006.03039.
"""

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear
from bertsmith.recurrent import both_ways, lstm


class RNNHead(Head):
    """`hidden` is a direction's; `dropout` is before and after the recurrent layer. Each document is read by itself."""

    paper = "arXiv:2006.03039"
    each = "token"
    example = {"hidden": 8}

    def __init__(self, encoder: Encoder, labels: int, *, hidden: int = 256, dropout: float = 0.1):
        super().__init__(encoder, labels)
        self.ahead, self.back = lstm(encoder.dim, hidden), lstm(encoder.dim, hidden)
        self.starts = tuple(f"{way}.{n}" for way in ("ahead", "back") for n, _ in self.ahead.named_parameters())
        self.drop, self.out = Dropout(dropout), Linear(2 * hidden, labels)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.out(self.drop(both_ways(self.ahead, self.back, self.drop(x_BTD), layout)))
