"""Layer normalisation that fades, while training, into a batch normalisation that folds away.

SLAB, Guo et al. 2024, arXiv:2405.11582:
    PRepBN(x) = f LN(x) + (1 - f) RepBN(x),  f from 1 to 0 linearly over the steps
    RepBN(x) = BN(x) + eta x

Differs from the paper: a model that is evaluated half way uses f as well (there RepBN alone); f reaches 0 at a share
`until` of the stage; BN takes its statistics from real tokens, never from padding, on each machine by itself. In training
with f < 1 a token's output depends on the statistics of its batch; in evaluation it does not.

B rows, T tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class Slab(Norm):
    """`until`: the share of the stage after which f is 0. `momentum`: of the running mean and variance."""

    paper = "arXiv:2405.11582"
    fade: Tensor
    mean: Tensor
    var: Tensor

    def __init__(self, dim: int, *, eps: float = 1e-5, until: float = 0.8, momentum: float = 0.1):
        super().__init__(dim)
        if not 0 < until <= 1:
            raise ValueError(f"norm/slab: until is a share of the stage in (0, 1], not {until}")
        self.eps, self.until, self.momentum = eps, until, momentum
        self.layer_weight, self.layer_bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.eta = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.register_buffer("fade", torch.ones(()))

    def step(self, progress: float) -> None:
        # it never rises again: a later stage goes on with what this one ended with
        self.fade.clamp_(max=max(0.0, 1 - progress / self.until))

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        mean_D, var_D = self._measure(x_BTD, layout) if self.training else (self.mean, self.var)
        scale_D = self.weight * (var_D + self.eps).rsqrt()
        batch = ((x_BTD - mean_D) * scale_D + self.bias + self.eta * x_BTD).to(x_BTD.dtype)
        layer = F.layer_norm(x_BTD, x_BTD.shape[-1:], self.layer_weight, self.layer_bias, self.eps)
        return self.fade * layer + (1 - self.fade) * batch

    def _measure(self, x_BTD: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """The mean and variance of each dimension over the real tokens; the running ones follow."""
        x_BTD, real_BT1 = x_BTD.float(), layout.real_BT[..., None]
        count = real_BT1.sum().clamp(min=1)
        mean_D = torch.where(real_BT1, x_BTD, 0).sum((0, 1)) / count
        var_D = torch.where(real_BT1, x_BTD - mean_D, 0).square().sum((0, 1)) / count
        with torch.no_grad():
            self.mean.lerp_(mean_D.to(self.mean.dtype), self.momentum)
            self.var.lerp_(var_D.to(self.var.dtype), self.momentum)
        return mean_D, var_D

    def affine(self) -> tuple[Tensor, Tensor] | None:
        if self.fade != 0:
            return None
        scale_D = self.weight * (self.var + self.eps).rsqrt()
        return scale_D + self.eta, self.bias - scale_D * self.mean
