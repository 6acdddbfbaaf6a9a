"""BERT's pooler: act(W h_[CLS] + b), act = tanh.  Devlin et al. 2018, arXiv:1810.04805 (its code)."""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear
from bertsmith.pool import Pool
from bertsmith.spec import Spec


class BertPooler(Pool):
    """`dropout` is on the state that is read (RoBERTa's and DeBERTa's classifiers have it); BERT has none there."""

    paper = "arXiv:1810.04805"

    def __init__(self, dim: int, *, act: Spec | str = "tanh", dropout: float = 0.0):
        super().__init__(dim)
        self.drop, self.dense, self.act = Dropout(dropout), Linear(dim, dim), build_act(act)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.act(self.dense(self.drop(layout.sum_CD(x_BTD, layout.position_BT == 0))))
