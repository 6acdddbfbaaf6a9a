"""Tokens to vectors."""

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.linear import Embedding
from bertsmith.spec import Slot


class Embed(nn.Module):
    """(token_BT, layout) -> x_BTD. `table` is the token table, which heads that predict tokens read; it may be narrower.

    Args:
        dim: width D of the encoder.
        heads: heads of the encoder, for positions.
    """

    paper = ""
    table: Embedding

    def __init__(self, dim: int, heads: int):
        super().__init__()

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        raise NotImplementedError


embedding = Slot(__name__, Embed)
