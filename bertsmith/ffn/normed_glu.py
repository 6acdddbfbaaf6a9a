"""A gated linear unit with a norm on what its outer layer reads: W_down norm(act(W_gate x) * (W_up x)).

NormFormer, Shleifer et al. 2021, arXiv:2110.09456, section 2 (the norm in the feed-forward), on GEGLU (Shazeer 2020,
arXiv:2002.05202, eq. 6) as in LTG-BERT, Samuel et al. 2023, arXiv:2303.09859.
"""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.norm import norm as norms
from bertsmith.spec import Spec


class NormedGLU(FFN):
    """`norm` None: norm/standard. No biases."""

    paper = "arXiv:2110.09456"
    reads = ("gate", "up")
    example = {"hidden": 24}

    def __init__(self, dim: int, *, hidden: int, act: Spec | str = "gelu", norm: Spec | None = None):
        super().__init__(dim)
        self.gate, self.up = Linear(dim, hidden, bias=False), Linear(dim, hidden, bias=False)
        self.norm, self.act = (norm or norms("standard")).build(hidden), build_act(act)
        self.down = Linear(hidden, dim, bias=False)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.down(self.norm(self.act(self.gate(x_BTD)) * self.up(x_BTD), layout))
