"""A feed-forward whose two layers work in groups: W2 act(W1 x + b1) + b2 with W1 and W2 block-diagonal.

Grouped convolutions of width 1 in SqueezeBERT, Iandola et al. 2020, arXiv:2006.11316; grouped linear layers in ConvBERT,
Jiang et al. 2020, arXiv:2008.02496.
"""

from torch import Tensor

from bertsmith.act import build_act
from bertsmith.ffn import FFN
from bertsmith.layout import Layout
from bertsmith.linear import GroupedLinear
from bertsmith.spec import Spec


class GroupedMLP(FFN):
    """Settings: how many groups each layer has; 1 is the usual one."""

    paper = "arXiv:2006.11316"
    example = {"hidden": 24}

    def __init__(self, dim: int, *, hidden: int, up_groups: int = 4, down_groups: int = 4, act: Spec | str = "gelu"):
        super().__init__(dim)
        self.up, self.down = GroupedLinear(dim, hidden, up_groups), GroupedLinear(hidden, dim, down_groups)
        self.act = build_act(act)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.down(self.act(self.up(x_BTD)))
