"""A ratio of two polynomials with learned coefficients, the same for all units of a layer; it starts near GELU.

    y = (a0 + a1 x + ... + a5 x^5) / (1 + |b1 x + ... + b4 x^4|)

RAFT, Fang et al. 2022, arXiv:2208.14111; the safe form of the Pade activation unit, Molina et al. 2019, arXiv:1907.06732,
eq. 3. The start is a fit to GELU on [-6, 6], never further than 0.0032 from it. `curve()` gives what has been learned.
"""

import torch
from torch import Tensor, nn

from bertsmith.act import Act


class Rational(Act):
    paper = "arXiv:2208.14111"
    starts = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([-0.003094513, 0.5, 0.417571396, 0.123017651, 0.014965696, 0.000619698]))
        self.b = nn.Parameter(torch.tensor([0.0, 0.246035302, 0.0, 0.001239397]))

    def forward(self, x: Tensor) -> Tensor:
        # fp32 inside: x^5 in bf16 loses what the sum needs
        a, b, wide = self.a.float(), self.b.float(), x.float()
        above, below = a[5], b[3]
        for i in (4, 3, 2, 1, 0):
            above = above * wide + a[i]
        for i in (2, 1, 0):
            below = below * wide + b[i]
        return (above / (1 + (below * wide).abs())).to(x.dtype)
