"""x sigmoid(x), also called Swish.  Elfwing et al. 2017, arXiv:1702.03118, eq. 4."""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.act import Act


class SiLU(Act):
    paper = "arXiv:1702.03118"

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)
