"""max(x, 0)^2.  Primer, So et al. 2021, arXiv:2109.08668, section 3."""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.act import Act


class SquaredReLU(Act):
    paper = "arXiv:2109.08668"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()
