"""Clipped softmax: clip((zeta - gamma) softmax(q k' scale + mask) + gamma, 0, 1) v, which can be exactly 0 (and 1).

Quantizable Transformers, Bondarenko et al. 2023, arXiv:2306.12929, eq. 4. A head that would do nothing need not drive its
scores, and with them the activations, to outliers. The paper's gamma is -alpha / T, alpha from 2 to 4, T the length that is
trained on; -0.025 is what its code trains BERT base with.

B rows, N heads, T tokens, S tokens read.
"""

import torch
from torch import Tensor

from bertsmith import kernels
from bertsmith.core import Core
from bertsmith.layout import Layout


class ClippedSoftmax(Core):
    """Raises ValueError unless gamma <= 0 and zeta >= 1."""

    paper = "arXiv:2306.12929"

    def __init__(self, heads: int, head_dim: int, dropout: float, *, gamma: float = -0.025, zeta: float = 1.0):
        super().__init__(heads, head_dim, dropout)
        if gamma > 0 or zeta < 1:
            raise ValueError(f"core/clipped_softmax stretches [0, 1]: gamma <= 0 and zeta >= 1, not {gamma} and {zeta}")
        self.gamma, self.zeta = gamma, zeta

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        score_BNTS = (q_BNTH * scale) @ k_BNSH.transpose(-1, -2)
        if mask is not None:
            least = torch.finfo(score_BNTS.dtype).min
            score_BNTS = score_BNTS.where(mask, least) if mask.dtype == torch.bool else score_BNTS + mask
        p_BNTS = score_BNTS.softmax(-1, dtype=torch.float32)
        p_BNTS = (p_BNTS * (self.zeta - self.gamma) + self.gamma).clamp(0, 1).to(v_BNSH.dtype)
        return kernels.dropout(p_BNTS, self.dropout, self.training) @ v_BNSH
