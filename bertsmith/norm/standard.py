"""Layer normalisation with nothing learned: y = (x - mean) / sqrt(var + eps) over the width.

Xu et al. 2019, Understanding and Improving Layer Normalization, arXiv:1911.07013, section 3.1 ("LayerNorm-simple"); LTG-BERT,
Samuel et al. 2023, arXiv:2303.09859, has it before its sub-layers (its code).
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class Standard(Norm):
    paper = "arXiv:1911.07013"

    def __init__(self, dim: int, *, eps: float = 1e-12):
        super().__init__(dim)
        self.eps = eps

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=self.eps)
