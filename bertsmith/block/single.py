"""A mixer alone on a residual, for mixers that do the feed-forward's work too: y = residual(x, mixer).

BiGS, Wang et al. 2022, arXiv:2212.10544, fig. 1 (the gated layer).
"""

from torch import Tensor

from bertsmith.block import Block
from bertsmith.layout import Layout
from bertsmith.spec import Spec


class Single(Block):
    paper = "arXiv:2212.10544"
    feeds = {"mixer_residual": ("mixer",)}
    example = {
        "mixer": {"kind": "mixer/bigs"},
        "residual": {"kind": "residual/pre", "norm": {"kind": "norm/layer"}},
    }

    def __init__(self, dim: int, heads: int, layer: int, depth: int, *, mixer: Spec, residual: Spec):
        super().__init__(dim, heads, layer, depth)
        self.mixer, self.mixer_residual = mixer.build(dim, heads), residual.build(dim, layer, depth)

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        if source is not None:
            source = self.mixer_residual.view(*source), source[1]
        return self.mixer_residual(x_BTD, lambda x: self.mixer(x, layout, source), layout)
