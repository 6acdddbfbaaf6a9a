"""Linear attention: y_t = f(q_t)' S / f(q_t)' z, S = sum_s f(k_s) v_s', z = sum_s f(k_s), f(x) = elu(x) + 1.

Katharopoulos et al. 2020, arXiv:2006.16236, eq. 5 and 7. Time and memory grow with the number of tokens, not with its square:
S and z are made once for a document, whoever reads them.

Differs from the paper: it is the form that reads both sides (the paper's causal one has a running sum). Packed rows are summed
document by document in rows of the longest one, so that a batch costs what it would cost padded.

C documents, N heads, L places, H head width.
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.core import Core
from bertsmith.layout import Layout
from bertsmith.rows import documents, packed


class LinearCore(Core):
    """Without weights there is none to drop: it refuses a dropout. `scale` is not used, as in the paper."""

    paper = "arXiv:2006.16236"
    dense = False

    def __init__(self, heads: int, head_dim: int, dropout: float):
        super().__init__(heads, head_dim, dropout)
        if dropout:
            raise ValueError(f"core/linear makes no weights to drop: set the mixer's dropout to 0, not {dropout}")

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        (q, k, v), keep_CL = documents(layout, q_BNTH, k_BNSH, v_BNSH)
        q, k = F.elu(q) + 1, (F.elu(k) + 1) * keep_CL[:, None, :, None]
        S_CNHH, z_CNH1 = k.transpose(-1, -2) @ v, k.sum(2)[..., None]
        return packed(layout, (q @ S_CNHH) / (q @ z_CNH1))
