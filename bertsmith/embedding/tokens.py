"""Sum of token, position and token-type embeddings, and of those of further facts, normalised, dropped out.

BERT, Devlin et al. 2018, arXiv:1810.04805, fig. 2. Tables narrower than the encoder, and a projection, as in ALBERT, Lan et
al. 2019, arXiv:1909.11942, section 3.1. Further facts: task ids as in ERNIE 2.0, Sun et al. 2019, arXiv:1907.12412,
"Task Embedding".
"""

from torch import Tensor, nn

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding, Linear
from bertsmith.spec import Spec


class Tokens(Embed):
    """`width` of the tables; 0: that of the encoder, with no projection.

    `types`: with one, as in RoBERTa, all tokens are of it, whatever the layout says. `facts`: {name: rows} of further
    tables, read at `layout.extra[name]` [B, T]; at 0 for all tokens where the layout does not have it.
    """

    paper = "arXiv:1810.04805"
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
        facts: dict[str, int] = {},  # noqa: B006
    ):
        super().__init__(dim, heads)
        wide = width or dim
        self.table = Embedding(vocab, wide)
        self.types = Embedding(types, wide) if types else None
        self.position, self.norm = position.build(wide, heads, dim // heads), norm.build(wide)
        self.facts = nn.ModuleDict({name: Embedding(rows, wide) for name, rows in facts.items()})
        self.one_type = types == 1
        self.drop = Dropout(dropout)
        self.project = Linear(wide, dim) if width else None

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        x_BTD = self.table(token_BT)
        if self.types is not None:
            type_BT = None if self.one_type else layout.type_BT
            x_BTD = x_BTD + self.types(token_BT.new_zeros(()) if type_BT is None else type_BT)
        x_BTD = self.position.add(x_BTD, layout)
        for name, table in self.facts.items():
            x_BTD = x_BTD + table(layout.extra[name] if name in layout.extra else token_BT.new_zeros(()))
        x_BTD = self.drop(self.norm(x_BTD, layout))
        return x_BTD if self.project is None else self.project(x_BTD)
