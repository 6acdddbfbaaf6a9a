"""Learned absolute positions: a table row per place, added to the embedding.

BERT, Devlin et al. 2018, arXiv:1810.04805, fig. 2. `offset` as RoBERTa has it (its padding id + 1).
"""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Embedding
from bertsmith.position import Position


class Learned(Position):
    paper = "arXiv:1810.04805"

    def __init__(self, dim: int, heads: int, head_dim: int, *, length: int = 512, offset: int = 0):
        super().__init__(dim, heads, head_dim)
        self.table, self.offset = Embedding(length, dim), offset

    def add(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return x_BTD + self.table(layout.position_BT + self.offset)
