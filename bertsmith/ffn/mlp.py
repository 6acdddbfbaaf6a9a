"""Two linear layers with a nonlinearity between: W2 act(W1 x + b1) + b2.

Vaswani et al. 2017, arXiv:1706.03762, eq. 2; GELU as in BERT (Hendrycks & Gimpel 2016, arXiv:1606.08415).
"""

import torch.nn.functional as F
from torch import Tensor

from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Linear

ACTS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class MLP(FFN):
    paper = "arXiv:1706.03762"
    reads = ("up",)
    example = {"hidden": 24}

    def __init__(self, dim: int, *, hidden: int, act: str = "gelu", bias: bool = True):
        super().__init__(dim)
        if act not in ACTS:
            raise ValueError(f"no activation {act!r}; there are: {', '.join(ACTS)}")
        self.up, self.down, self.act = Linear(dim, hidden, bias), Linear(hidden, dim, bias), ACTS[act]

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.down(self.act(self.up(x_BTD)))
