"""Layer normalisation in the low precision of autocast: y = (x - mean) / sqrt(var + eps) * w + b on 16-bit x, w and b.

MosaicBERT, Portes et al. 2023, arXiv:2312.17482, "Low Precision LayerNorm". Under `torch.autocast` a norm is
otherwise given, and gives, 32-bit numbers, twice the memory traffic of a piece that does little else.

Differs from the paper: outside autocast it is `norm/layer`; runs in "bf16" here cast the weights once a step and use no
autocast, so that every norm is of low precision there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class LowPrecision(Norm):
    paper = "arXiv:2312.17482"

    def __init__(self, dim: int, *, eps: float = 1e-12, bias: bool = True):
        super().__init__(dim)
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.eps = eps

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        device = x_BTD.device.type
        if not torch.is_autocast_enabled(device):
            return F.layer_norm(x_BTD, x_BTD.shape[-1:], self.weight, self.bias, self.eps)
        low = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(low)
        with torch.autocast(device, enabled=False):
            return F.layer_norm(x_BTD.to(low), x_BTD.shape[-1:], self.weight.to(low), bias, self.eps)
