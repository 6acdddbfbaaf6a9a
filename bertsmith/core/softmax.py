"""softmax(q k' scale + mask) v.  Vaswani et al. 2017, arXiv:1706.03762, eq. 1."""

from torch import Tensor

from bertsmith import kernels
from bertsmith.core import Core
from bertsmith.layout import Layout


class Softmax(Core):
    paper = "arXiv:1706.03762"

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        return kernels.attention(q_BNTH, k_BNSH, v_BNSH, mask, scale, self.dropout if self.training else 0.0)
