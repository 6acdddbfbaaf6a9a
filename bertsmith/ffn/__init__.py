"""What each token does by itself."""

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class FFN(nn.Module):
    """(x_BTD, layout) -> y_BTD, token-wise. The layout tells padding from tokens where a loss or a statistic counts.

    Attributes:
        reads: the names of the Linears that see the input and nothing else.
    """

    paper = ""
    reads: tuple[str, ...] = ()

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        raise NotImplementedError


ffn = Slot(__name__, FFN)
