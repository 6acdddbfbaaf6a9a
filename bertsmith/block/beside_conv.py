"""A convolution over neighbours beside a whole block: y = norm(block(x) + act(drop(sum_k W_k x_(t + k) + b))).

DeBERTa-v2, He et al. 2020, arXiv:2006.03654 (its code, where the first layer has it: n-gram induced encoding).

B rows, T tokens, D width.
"""

from typing import Any

from torch import Tensor, nn

from bertsmith.act import build_act
from bertsmith.block import Block
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Linear
from bertsmith.spec import Spec


class BesideConv(Block):
    """`inner`: the block; `width`: how many tokens the convolution sees, odd. No tap leaves the document."""

    paper = "arXiv:2006.03654"
    example: dict[str, Any] = {
        "inner": {
            "kind": "block/sequential",
            "mixer": {"kind": "mixer/attention"},
            "ffn": {"kind": "ffn/mlp", "hidden": 24},
            "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
        },
        "norm": {"kind": "norm/layer"},
    }

    def __init__(
        self,
        dim: int,
        heads: int,
        layer: int,
        depth: int,
        *,
        inner: Spec,
        norm: Spec,
        width: int = 3,
        act: Spec | str = "tanh",
        dropout: float = 0.0,
    ):
        super().__init__(dim, heads, layer, depth)
        if width < 1 or width % 2 == 0:
            raise ValueError(f"a convolution around a token has an odd width, not {width}")
        self.inner, self.norm = inner.build(dim, heads, layer, depth), norm.build(dim)
        # a Linear a tap, not one wide weight: what widens or prunes the model then finds one width on each side
        self.taps = nn.ModuleList(Linear(dim, dim, bias=k == 0) for k in range(width))
        self.act, self.drop = build_act(act), Dropout(dropout)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        y_BTD = self.inner(x_BTD, layout, source)
        middle = len(self.taps) // 2
        near_BTD = self.taps[middle](x_BTD)
        for k, tap in enumerate(self.taps):
            if k != middle:
                near_BTD = near_BTD + tap(layout.shift(x_BTD, k - middle))
        return self.norm(y_BTD + self.act(self.drop(near_BTD)), layout)
