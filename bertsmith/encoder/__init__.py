"""The whole encoder. BERT, ALBERT, ModernBERT, XLNet are values of its settings, not classes."""

from torch import Tensor

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Changeable
from bertsmith.spec import Slot


class Encoder(Changeable):
    """(token_BT, layout) -> x_BTD, states for the layout it was given, whatever it inserted, dropped or cut inside.

    Public names, which patterns may use: embedding, layers.N, norm.

    Attributes:
        dim: width D; heads: default number of heads; embedding.table: the token table, of any width.
    """

    paper = ""
    embedding: Embed

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        return self.states(token_BT, layout)[-1]

    def states(self, token_BT: Tensor, layout: Layout) -> list[Tensor]:
        """[x_BTD after the embedding, after each layer ...]; the last has the final norm."""
        raise NotImplementedError


encoder = Slot(__name__, Encoder)
