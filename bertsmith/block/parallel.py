"""Mixer and feed-forward side by side on one residual: y = residual(x, mixer + ffn).

PAF, Sonkar & Baraniuk 2023, arXiv:2305.13297: both read the same view of x, and their sum joins the stream once. With
residual/pre, y = x + mixer(norm(x)) + ffn(norm(x)).
"""

from torch import Tensor

from bertsmith.block import Block
from bertsmith.layout import Layout
from bertsmith.spec import Spec


class Parallel(Block):
    paper = "arXiv:2305.13297"
    feeds = {"residual": ("mixer", "ffn")}
    example = {
        "mixer": {"kind": "mixer/attention"},
        "ffn": {"kind": "ffn/mlp", "hidden": 24},
        "residual": {"kind": "residual/pre", "norm": {"kind": "norm/layer"}},
    }

    def __init__(self, dim: int, heads: int, layer: int, depth: int, *, mixer: Spec, ffn: Spec, residual: Spec):
        super().__init__(dim, heads, layer, depth)
        self.mixer, self.ffn = mixer.build(dim, heads), ffn.build(dim)
        self.residual = residual.build(dim, layer, depth)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        if source is not None:
            source = self.residual.view(*source), source[1]
        return self.residual(x_BTD, lambda x: self.mixer(x, layout, source) + self.ffn(x, layout), layout)
