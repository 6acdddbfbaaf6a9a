"""What mixes tokens with one another."""

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Mixer(nn.Module):
    """(x_BTD, layout, source=None) -> y_BTD. Nothing crosses documents; padding is inert.

    source = (s_BSD, its layout): what to read instead of x (memories, query streams, enhanced decoders).

    Args:
        dim: width D.
        heads: the encoder's number of heads; a mixer that has its own setting prefers that.

    Attributes:
        reads: the names of the Linears that see the mixer's input and nothing else, for norm folding.
        crosses: an exception, declared: information may pass between documents.
    """

    paper = ""
    reads: tuple[str, ...] = ()
    crosses = False

    def __init__(self, dim: int, heads: int):
        super().__init__()

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        raise NotImplementedError


mixer = Slot(__name__, Mixer)
