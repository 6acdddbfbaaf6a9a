"""Embedding, blocks tiled over the depth, final norm.  Vaswani et al. 2017, arXiv:1706.03762, fig. 1 (left).

`blocks` is repeated over `depth`, so [global, local, local] alternates; `share` ties what its patterns name;
`dropout` is on the final states (T5, XLNet).
"""

from torch import Tensor, nn

from bertsmith import fused
from bertsmith.encoder import Encoder
from bertsmith.init import init as inits
from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.linear import share as tie
from bertsmith.spec import Spec


class Stack(Encoder):
    paper = "arXiv:1706.03762"
    example = {
        "dim": 16,
        "heads": 2,
        "depth": 2,
        "embedding": {
            "kind": "embedding/tokens",
            "vocab": 50,
            "position": {"kind": "position/learned", "length": 64},
            "norm": {"kind": "norm/layer"},
        },
        "blocks": [
            {
                "kind": "block/sequential",
                "mixer": {"kind": "mixer/attention"},
                "ffn": {"kind": "ffn/mlp", "hidden": 24},
                "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
            }
        ],
        "norm": {"kind": "norm/none"},
    }

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        depth: int,
        embedding: Spec,
        blocks: list[Spec],
        norm: Spec,
        init: Spec | None = None,
        share: list[str] = [],  # noqa: B006
        dropout: float = 0.0,
    ):
        super().__init__()
        if not blocks:
            raise ValueError("encoder/stack needs at least one block in `blocks`")
        self.dim, self.heads, self.depth = dim, heads, depth
        self.embedding = embedding.build(dim, heads)
        self.layers = nn.ModuleList(blocks[i % len(blocks)].build(dim, heads, i, depth) for i in range(depth))
        self.norm = norm.build(dim)
        self.drop = Dropout(dropout)
        tie(self, *share)
        self.init = (init or inits("normal")).build(dim, depth)

    def states(self, token_BT: Tensor, layout: Layout) -> list[Tensor]:
        layout = self.prepare(token_BT, layout)
        return self.run(self.embed(token_BT, layout), layout)

    def at(self, token_BT: Tensor, layout: Layout, place_N: Tensor) -> Tensor:
        if not fused.each_alone(self, self.norm, self.drop):
            return super().at(token_BT, layout, place_N)
        layout = self.prepare(token_BT, layout)
        states = self.run(self.embed(token_BT, layout), layout, place_N=place_N)
        return states[-1].flatten(0, 1).index_select(0, place_N)
