"""One layer: how mixer and feed-forward stand to each other."""

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Block(nn.Module):
    """(x_BTD, layout, source=None) -> y_BTD.

    Args:
        dim: width D.
        heads: the encoder's number of heads.
        layer, depth: the layer's number, from 0, and how many there are.

    Attributes:
        feeds: residual -> the pieces that read its view, and that nothing else reads, for norm folding.
    """

    paper = ""
    feeds: dict[str, tuple[str, ...]] = {}

    def __init__(self, dim: int, heads: int, layer: int, depth: int):
        super().__init__()

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        raise NotImplementedError


block = Slot(__name__, Block)
