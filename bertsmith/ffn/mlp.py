"""Two linear layers with a nonlinearity between: W2 act(W1 x + b1) + b2.

Vaswani et al. 2017, arXiv:1706.03762, eq. 2; GELU as in BERT (Hendrycks & Gimpel 2016, arXiv:1606.08415).
"""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.spec import Spec


class MLP(FFN):
    paper = "arXiv:1706.03762"
    reads = ("up",)
    example = {"hidden": 24}

    def __init__(self, dim: int, *, hidden: int, act: Spec | str = "gelu", bias: bool = True):
        super().__init__(dim)
        self.up, self.down, self.act = Linear(dim, hidden, bias), Linear(hidden, dim, bias), build_act(act)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.down(self.act(self.up(x_BTD)))
