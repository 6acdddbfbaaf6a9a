"""max(x, 0).  Agarap 2018, arXiv:1803.08375, eq. 1 (the idea is from Nair & Hinton 2010)."""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.act import Act


class ReLU(Act):
    paper = "arXiv:1803.08375"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)
