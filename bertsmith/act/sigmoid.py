"""1 / (1 + exp(-x)), the gate of the first gated linear unit.  Dauphin et al. 2016, arXiv:1612.08083, eq. 1."""

from torch import Tensor

from bertsmith.act import Act


class Sigmoid(Act):
    paper = "arXiv:1612.08083"

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()
