"""Two linear layers with a nonlinearity between: W2 drop(act(W1 x + b1)) + b2.

Vaswani et al. 2017, arXiv:1706.03762, eq. 2; GELU as in BERT (Hendrycks & Gimpel 2016, arXiv:1606.08415); the dropout as in
XLNet (Yang et al. 2019, arXiv:1906.08237, its code), where BERT has none.
"""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear
from bertsmith.spec import Spec


class MLP(FFN):
    paper = "arXiv:1706.03762"
    reads = ("up",)
    example = {"hidden": 24}

    def __init__(self, dim: int, *, hidden: int, act: Spec | str = "gelu", bias: bool = True, dropout: float = 0.0):
        super().__init__(dim)
        self.up, self.down, self.act = Linear(dim, hidden, bias), Linear(hidden, dim, bias), build_act(act)
        self.drop = Dropout(dropout)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.down(self.drop(self.act(self.up(x_BTD))))
