"""Sum of token, position and token-type embeddings, normalised, projected, and only then dropped out.

FNet, Lee-Thorp et al. 2021, arXiv:2105.03824 (its code; also where the tables are as wide as the encoder).

Differs from `embedding/tokens` with a width in the order of the last two steps: what is dropped are states of the encoder,
not of the tables.
"""

from torch import Tensor

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding, Linear
from bertsmith.spec import Spec


class Projected(Embed):
    """`width` of the tables; 0: that of the encoder."""

    paper = "arXiv:2105.03824"
    example = {"vocab": 50, "position": {"kind": "position/learned", "length": 64}, "norm": {"kind": "norm/layer"}}

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        vocab: int,
        position: Spec,
        norm: Spec,
        types: int = 0,
        dropout: float = 0.0,
        width: int = 0,
    ):
        super().__init__(dim, heads)
        wide = width or dim
        self.table = Embedding(vocab, wide)
        self.types = Embedding(types, wide) if types else None
        self.position, self.norm = position.build(wide, heads, dim // heads), norm.build(wide)
        self.project, self.drop = Linear(wide, dim), Dropout(dropout)

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        x_BTD = self.table(token_BT)
        if self.types is not None:
            x_BTD = x_BTD + self.types(token_BT.new_zeros(()) if layout.type_BT is None else layout.type_BT)
        return self.drop(self.project(self.norm(self.position.add(x_BTD, layout), layout)))
