"""Prefix tuning: trained keys and values before the real ones, in every layer; every token reads them.

head = softmax(q [P_k; K]' / sqrt(H)) [P_v; V].  Li & Liang 2021, arXiv:2101.00190, eq. 3; for encoders P-tuning v2,
Liu et al. 2021, arXiv:2110.07602, fig. 2b.

Differs from the paper: no network makes the prefix (their section 4.3); it is trained directly, as in P-tuning v2.
It has no position: tokens keep theirs (`peft` moves them up by P).

B rows, N heads, T tokens, S tokens read, P places of the prefix, H head width.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.graft import Graft
from bertsmith.kernels import generator


class Prefix(Graft):
    """Hang it at `layers.*.mixer.core`; raises ValueError elsewhere. Each document has the whole prefix to itself."""

    paper = "arXiv:2101.00190"
    where = "layers.*.mixer.core"
    starts_as_identity = False

    def __init__(self, host: Any, path: str, dim: int, heads: int, *, length: int = 10, std: float = 1.0):
        super().__init__(host, path, dim, heads)
        if path.rpartition(".")[2] != "core":
            raise ValueError(f"graft/prefix sits on an attention's inner product: say '**.mixer.core', not {path!r}")
        shape = host.heads, length, host.head_dim
        self.k, self.v = (nn.Parameter(torch.randn(shape, generator=generator()) * std) for _ in range(2))

    def forward(self, inner: Callable[..., Tensor], *inputs: Any) -> Tensor:
        q_BNTH, k_BNSH, v_BNSH, mask, scale, layout = inputs
        B, length = k_BNSH.shape[0], self.k.shape[1]
        k = torch.cat([self.k.to(k_BNSH.dtype).expand(B, -1, -1, -1), k_BNSH], 2)
        v = torch.cat([self.v.to(v_BNSH.dtype).expand(B, -1, -1, -1), v_BNSH], 2)
        if mask is not None:
            mask = F.pad(mask, (length, 0), value=True if mask.dtype == torch.bool else 0.0)
        return inner(q_BNTH, k, v, mask, scale, layout)
