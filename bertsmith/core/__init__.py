"""The inner product of attention: what becomes of queries, keys and values that are split into heads."""

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Core(nn.Module):
    """(q_BNTH, k_BNSH, v_BNSH, mask, scale, layout) -> y_BNTH. Prefixes, head masks, value mixing and probes sit here.

    mask: None, bool (True: may read) or a float term of the scores, broadcastable to B N T S. scale: of q k'.

    Args:
        heads, head_dim: N and H.
        dropout: the share of attention weights dropped in training.

    Attributes:
        dense: the core is given a mask and a position's term of the scores, both T x S. One that is not dense is given
            mask None, reads only its own row's tokens, and keeps documents apart by the layout.
        crosses: an exception, declared: information may pass between documents.
    """

    paper = ""
    dense = True
    crosses = False

    def __init__(self, heads: int, head_dim: int, dropout: float):
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        raise NotImplementedError


core = Slot(__name__, Core)
