"""BERT's sum of embeddings, dropped out before it is normalised; tokens may be scaled by sqrt(D).

BigBird, Zaheer et al. 2020, arXiv:2007.14062 (its code); the scale as in Vaswani et al. 2017, arXiv:1706.03762, section 3.4.

B rows, T tokens, D width.
"""

from torch import Tensor

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding
from bertsmith.spec import Spec


class BigBirdEmbed(Embed):
    """`scale` of the token's row: 1, or D ** 0.5 where the config says `rescale_embeddings`."""

    paper = "arXiv:2007.14062"
    example = {"vocab": 50, "position": {"kind": "position/learned", "length": 64}, "norm": {"kind": "norm/layer"}}

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        vocab: int,
        position: Spec,
        norm: Spec,
        types: int = 2,
        dropout: float = 0.0,
        scale: float = 1.0,
    ):
        super().__init__(dim, heads)
        self.table, self.types = Embedding(vocab, dim), Embedding(types, dim)
        self.position, self.norm = position.build(dim, heads, dim // heads), norm.build(dim)
        self.drop, self.scale = Dropout(dropout), scale

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        type_BT = token_BT.new_zeros(()) if layout.type_BT is None else layout.type_BT
        x_BTD = self.table(token_BT) * self.scale + self.types(type_BT)
        return self.norm(self.drop(self.position.add(x_BTD, layout)), layout)
