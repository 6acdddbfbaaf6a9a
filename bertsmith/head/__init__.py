"""What stands on an encoder and ships with it."""

from torch import Tensor, nn

from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Head(nn.Module):
    """(x_BTD, layout) -> y: per document [C, labels] or per token [B, T, labels]; packed or padded.

    Args:
        encoder: what it stands on; only its width and its token table are read, and the encoder is not kept.
        labels: how many outputs; 0 where the head knows by itself.

    Attributes:
        each: it answers for each "document", each "token" or each "row".
        apart: it wants the two texts of a pair as two documents of a row, not as one.
        speaks: what it gives are logits over the vocabulary, one row a token; it has `logits`, for some states only.
    """

    paper = ""
    each = "document"
    order = 1
    apart = False
    speaks = False

    def __init__(self, encoder: Encoder, labels: int):
        super().__init__()

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        raise NotImplementedError

    def logits(self, h_ND: Tensor, layout: Layout) -> Tensor:
        """h [..., D] -> [..., V], of a head that speaks."""
        raise NotImplementedError


head = Slot(__name__, Head)
