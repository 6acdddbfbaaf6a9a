"""Softmax attention through landmarks: softmax(Q K~') pinv(softmax(Q~ K~')) softmax(Q~ K') V, all of q k' scaled.

Nystroemformer, Xiong et al. 2021, arXiv:2102.03902, section 3; the pseudo-inverse by the paper's iteration,
Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4, begun at A' / |A|_1. Q~, K~: the means of q and k over `landmarks` stretches
of the document. Time and memory are T * landmarks.

Differs from the paper: stretches are cut per document and by its own length, so that neither padding nor the other documents
of a row or batch move them. A document of no more tokens than landmarks has each token as its own. Packed rows are unpacked to
rows of the longest document: the cost is that of the padded batch, and grows linearly with its width.

C documents, N heads, L places, M landmarks, H head width.
"""

import torch
from torch import Tensor

from bertsmith.core import Core
from bertsmith.layout import Layout
from bertsmith.rows import documents, packed


class Nystrom(Core):
    """`steps` of the iteration. The paper drops no weights, and the approximation has none to drop: dropout is refused."""

    paper = "arXiv:2102.03902"
    dense = False

    def __init__(self, heads: int, head_dim: int, dropout: float, *, landmarks: int = 64, steps: int = 6):
        super().__init__(heads, head_dim, dropout)
        if dropout:
            raise ValueError(f"core/nystrom makes no weights to drop: set the mixer's dropout to 0, not {dropout}")
        if landmarks < 1:
            raise ValueError(f"core/nystrom needs at least one landmark, not {landmarks}")
        self.landmarks, self.steps = landmarks, steps

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        (q, k, v), keep_CL = documents(layout, q_BNTH, k_BNSH, v_BNSH)
        mean_CML, there_CM = layout.once(("nystrom", self.landmarks), lambda: self._stretches(keep_CL))
        mean_C1ML, there_C11M = mean_CML[:, None].to(q.dtype), there_CM[:, None, None]
        least = torch.finfo(q.dtype).min
        soft = lambda x, may: torch.where(may, x, least).softmax(-1)  # noqa: E731
        q_CNMH, k_CNHM = (mean_C1ML @ q) * scale, (mean_C1ML @ k).transpose(-1, -2)
        left_CNLM = soft((q * scale) @ k_CNHM, there_C11M)
        middle_CNMM = soft(q_CNMH @ k_CNHM, there_C11M) * there_CM[:, None, :, None]
        right_CNML = soft(q_CNMH @ k.transpose(-1, -2), keep_CL[:, None, None])
        return packed(layout, left_CNLM @ (self._inverse(middle_CNMM) @ (right_CNML @ v)))

    def _stretches(self, keep_CL: Tensor) -> tuple[Tensor, Tensor]:
        """(mean_CML, there_CM): the weights of the means, and which landmarks have any token."""
        M, n_C1 = self.landmarks, keep_CL.sum(1, keepdim=True)
        rank_CL = keep_CL.cumsum(1) - 1
        part_CL = torch.where(keep_CL, torch.where(n_C1 <= M, rank_CL, rank_CL * M // n_C1), M)
        one_CML = (part_CL[:, None] == torch.arange(M, device=keep_CL.device)[:, None]).float()
        count_CM1 = one_CML.sum(-1, keepdim=True)
        return one_CML / count_CM1.clamp_min(1), count_CM1[..., 0] > 0

    def _inverse(self, A_CNMM: Tensor) -> Tensor:
        with torch.autocast(A_CNMM.device.type, enabled=False):  # the iteration squares its errors in bf16
            A, eye = A_CNMM.float(), torch.eye(self.landmarks, device=A_CNMM.device)
            Z = A.transpose(-1, -2) / A.sum(-2).amax(-1)[..., None, None]
            for _ in range(self.steps):
                AZ = A @ Z
                Z = 0.25 * Z @ (13 * eye - AZ @ (15 * eye - AZ @ (7 * eye - AZ)))
            return Z.to(A_CNMM.dtype)
