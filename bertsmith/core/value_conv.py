"""A core, plus a convolution of the values along the document, with one kernel a head: y = inner(q, k, v) + w_head * v.

Xiong et al. 2021, arXiv:2102.03902, fig. 2 ("DConv", the skip connection of the values).

C documents, N heads, L places, H head width.
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.core import Core
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.rows import documents, packed
from bertsmith.spec import Spec


class ValueConv(Core):
    """`inner`, the core; `kernel`, the odd number of taps. What lies beyond the ends of a document counts as 0."""

    paper = "arXiv:2102.03902"
    example = {"inner": {"kind": "core/softmax"}, "kernel": 3}

    def __init__(self, heads: int, head_dim: int, dropout: float, *, inner: Spec, kernel: int):
        super().__init__(heads, head_dim, dropout)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"core/value_conv: the kernel has an odd number of taps, not {kernel}")
        self.inner: Core = inner.build(heads, head_dim, dropout)
        self.dense, self.taps = self.inner.dense, Linear(kernel, heads, bias=False)

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        y_BNTH = self.inner(q_BNTH, k_BNSH, v_BNSH, mask, scale, layout)
        (v_CNLH,), _ = documents(layout, v_BNSH)
        w_NK = self.taps.edited()[0]
        pad = w_NK.shape[1] // 2
        conv = F.conv2d(v_CNLH, w_NK[:, None, :, None].to(v_CNLH.dtype), padding=(pad, 0), groups=self.heads)
        return y_BNTH + packed(layout, conv)
