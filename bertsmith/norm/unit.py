"""Unit length: y = x / |x| over the width, with nothing learned.

nGPT, Loshchilov et al. 2024, arXiv:2410.01131, section 2.1 ("Norm"): after an embedding it is a table of unit rows.
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class Unit(Norm):
    paper = "arXiv:2410.01131"

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return F.normalize(x_BTD, dim=-1)
