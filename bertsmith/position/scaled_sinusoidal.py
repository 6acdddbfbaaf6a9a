"""Fixed sines and cosines of the place times a learned number, added to the embedding: x + s wave(p), s = 1 / sqrt(D) at first.

FLASH, Hua et al. 2022, arXiv:2202.10447, code in its appendix ("ScaledSin"); crammed BERT, Geiping & Goldstein 2022,
arXiv:2212.14034, section 4.2, has it too. The waves are those of `position/sinusoidal`.
"""

import torch
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.position import Position
from bertsmith.position import position as positions


class ScaledSinusoidal(Position):
    """Raises ValueError if the width is odd."""

    paper = "arXiv:2202.10447"
    starts = ("scale",)

    def __init__(self, dim: int, heads: int, head_dim: int, *, base: float = 10000.0):
        super().__init__(dim, heads, head_dim)
        self.waves: Position = positions("sinusoidal", base=base).build(dim, heads, head_dim)
        self.scale = nn.Parameter(torch.tensor([dim**-0.5]))

    def add(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return x_BTD + self.scale * self.waves.add(torch.zeros_like(x_BTD), layout)
