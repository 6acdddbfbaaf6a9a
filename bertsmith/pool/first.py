"""The state of a document's first token, [CLS].  BERT, Devlin et al. 2018, arXiv:1810.04805, section 3."""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.pool import Pool


class First(Pool):
    paper = "arXiv:1810.04805"

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return layout.sum_CD(x_BTD, layout.position_BT == 0)
