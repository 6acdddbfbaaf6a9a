"""Token embeddings, and one learned vector w for tokens that ask what stands in their place: XLNet's query stream.

    h_i = E[x_i],   g_i = w

The id after the last of the vocabulary says that a token asks. Such tokens are appended to a row, with the place of what they
ask for, and the layout's `see_BTT` lets them read what comes before it in some order, and lets nobody read them.

XLNet, Yang et al. 2019, arXiv:1906.08237, section 2.3.
"""

import torch
from torch import Tensor

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding


class TwoStream(Embed):
    paper = "arXiv:1906.08237"
    example = {"vocab": 49}

    def __init__(self, dim: int, heads: int, *, vocab: int, dropout: float = 0.0):
        super().__init__(dim, heads)
        self.vocab, self.table, self.query = vocab, Embedding(vocab, dim), Embedding(1, dim)
        self.drop = Dropout(dropout)

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        asks_BT1 = (token_BT == self.vocab)[..., None]
        x_BTD = self.table(token_BT.clamp(max=self.vocab - 1))
        return self.drop(torch.where(asks_BT1, self.query.edited()[0], x_BTD))
