"""Sum of token, position and token-type embeddings, normalised, dropped out.

BERT, Devlin et al. 2018, arXiv:1810.04805, fig. 2.
"""

from torch import Tensor

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding
from bertsmith.spec import Spec


class Tokens(Embed):
    paper = "arXiv:1810.04805"
    example = {"vocab": 50, "position": {"kind": "position/learned", "length": 64}, "norm": {"kind": "norm/layer"}}

    def __init__(
        self, dim: int, heads: int, *, vocab: int, position: Spec, norm: Spec, types: int = 0, dropout: float = 0.0
    ):
        super().__init__(dim, heads)
        self.table = Embedding(vocab, dim)
        self.types = Embedding(types, dim) if types else None
        self.position, self.norm = position.build(dim, heads, dim // heads), norm.build(dim)
        self.drop = Dropout(dropout)

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        x_BTD = self.table(token_BT)
        if self.types is not None:
            type_BT = token_BT.new_zeros(()) if layout.type_BT is None else layout.type_BT
            x_BTD = x_BTD + self.types(type_BT)
        return self.drop(self.norm(self.position.add(x_BTD, layout), layout))
