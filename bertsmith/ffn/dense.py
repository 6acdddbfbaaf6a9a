"""One layer of the encoder's width, normalised: norm(act(W x + b)), what heads put between states and logits.

BERT, Devlin et al. 2018, arXiv:1810.04805 (its code, "transform"); ModernBERT, Warner et al. 2024, arXiv:2412.13663.
"""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.norm import norm as norms
from bertsmith.spec import Spec


class Dense(FFN):
    """`norm` None: none."""

    paper = "arXiv:1810.04805"
    reads = ("dense",)

    def __init__(self, dim: int, *, act: Spec | str = "gelu", norm: Spec | None = None, bias: bool = True):
        super().__init__(dim)
        self.dense, self.act = Linear(dim, dim, bias), build_act(act)
        self.norm = (norm or norms("none")).build(dim)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.norm(self.act(self.dense(x_BTD)), layout)
