"""Linear attention with ReLU features, and a convolution of the values: y_t = f(q_t)' S / f(q_t)' z + sum_j w_j v_(t+j) + b.

SLAB, Guo et al. 2024, arXiv:2405.11582 (its simplified linear attention): S = sum_s f(k_s) v_s', z = sum_s f(k_s), f = ReLU.
The convolution, one kernel for each of a head's dimensions, gives back what a map of rank H cannot say.

Differs from the paper: texts have one axis, pictures two; what tells places is a position of its own (the paper adds a
learned one to the keys).

C documents, N heads, L places, H head width, K taps.
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.core import Core
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.rows import documents, packed


class SimplifiedLinear(Core):
    """`kernel`: the odd number of taps. It makes no weights, so that it refuses a dropout; `scale` cancels out."""

    paper = "arXiv:2405.11582"
    dense = False

    def __init__(self, heads: int, head_dim: int, dropout: float, *, kernel: int = 5):
        super().__init__(heads, head_dim, dropout)
        if dropout or kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"core/simplified_linear takes no dropout (got {dropout}) and an odd number of taps (got {kernel})"
            )
        self.taps = Linear(kernel, head_dim)

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        (q, k, v), keep_CL = documents(layout, q_BNTH, k_BNSH, v_BNSH)
        q, k = F.relu(q.float()), F.relu(k.float()) * keep_CL[:, None, :, None]
        S_CNHH, z_CNH1 = k.transpose(-1, -2) @ v.float(), k.sum(2)[..., None]
        y_CNLH = (q @ S_CNHH) / (q @ z_CNH1 + 1e-6)
        w_HK, b_H = self.taps.edited()
        v_MHL = v.flatten(0, 1).transpose(1, 2)
        conv_MHL = F.conv1d(v_MHL, w_HK[:, None].to(v.dtype), None, padding=w_HK.shape[1] // 2, groups=self.head_dim)
        y_CNLH = y_CNLH.to(v.dtype) + conv_MHL.transpose(1, 2).unflatten(0, v.shape[:2])
        return packed(layout, y_CNLH if b_H is None else y_CNLH + b_H)
