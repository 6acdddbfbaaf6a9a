"""BERT's pooler: tanh(W h_[CLS] + b).  Devlin et al. 2018, arXiv:1810.04805 (its code)."""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.pool import Pool


class BertPooler(Pool):
    paper = "arXiv:1810.04805"

    def __init__(self, dim: int):
        super().__init__(dim)
        self.dense = Linear(dim, dim)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.dense(layout.sum_CD(x_BTD, layout.position_BT == 0)).tanh()
