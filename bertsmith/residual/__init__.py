"""How a piece joins the stream, and where the norm stands."""

from collections.abc import Callable

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Residual(nn.Module):
    """(x_BTD, f, layout) -> y_BTD, with f called once; `view(x, layout)` is what f would see of x.

    Args:
        dim: width D.
        layer: the layer's number, from 0.
        depth: how many layers there are.

    Attributes:
        shows: the path of the norm that gives the view, if nothing else reads what it gives: it can be folded into what does.
    """

    paper = ""
    shows = ""

    def __init__(self, dim: int, layer: int, depth: int):
        super().__init__()

    def view(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return x_BTD

    def forward(self, x_BTD: Tensor, f: Callable[[Tensor], Tensor], layout: Layout) -> Tensor:
        raise NotImplementedError


# Peri-LN (Kim et al. 2025, arXiv:2502.02732) is the sandwich by another name
residual = Slot(__name__, Residual, {"peri": "sandwich"})
