"""The mixer, then the feed-forward, each on a residual of its own.

Vaswani et al. 2017, arXiv:1706.03762, fig. 1 (left).
"""

from torch import Tensor

from bertsmith.block import Block
from bertsmith.layout import Layout
from bertsmith.spec import Spec


class Sequential(Block):
    """`ffn_residual`: that of the feed-forward, where it differs from the mixer's."""

    paper = "arXiv:1706.03762"
    feeds = {"mixer_residual": ("mixer",), "ffn_residual": ("ffn",)}
    example = {
        "mixer": {"kind": "mixer/attention"},
        "ffn": {"kind": "ffn/mlp", "hidden": 24},
        "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
    }

    def __init__(
        self,
        dim: int,
        heads: int,
        layer: int,
        depth: int,
        *,
        mixer: Spec,
        ffn: Spec,
        residual: Spec,
        ffn_residual: Spec | None = None,
    ):
        super().__init__(dim, heads, layer, depth)
        self.mixer, self.mixer_residual = mixer.build(dim, heads), residual.build(dim, layer, depth)
        self.ffn, self.ffn_residual = ffn.build(dim), (ffn_residual or residual).build(dim, layer, depth)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        if source is not None:
            source = self.mixer_residual.view(*source), source[1]
        x_BTD = self.mixer_residual(x_BTD, lambda x: self.mixer(x, layout, source), layout)
        return self.ffn_residual(x_BTD, lambda x: self.ffn(x, layout), layout)
