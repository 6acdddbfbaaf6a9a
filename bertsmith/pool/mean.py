"""The mean of a document's tokens.  Sentence-BERT, Reimers & Gurevych 2019, arXiv:1908.10084, section 3."""

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.pool import Pool


class Mean(Pool):
    paper = "arXiv:1908.10084"

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        one_BT = torch.ones_like(layout.position_BT)
        length_C1 = layout.sum_CD(x_BTD.new_ones(*x_BTD.shape[:2], 1), one_BT)
        return layout.sum_CD(x_BTD, one_BT) / length_C1
