"""A narrow token table, and a linear layer over each token with its neighbours that makes the width of the encoder.

    norm(W [e_(t+1) ; e_t ; e_(t-1)] + b + position + type), dropped out

MobileBERT, Sun et al. 2020, arXiv:2004.02984, section 3.4 (embedding factorisation).

Differs from the paper: what lies outside the document, padding too, is 0.

B rows, T tokens, D width, E width of the table.
"""

import torch
from torch import Tensor

from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding, Linear
from bertsmith.spec import Spec


class Trigram(Embed):
    """`width` of the token table; `span`: how many tokens are seen, an odd number (1: the token alone)."""

    paper = "arXiv:2004.02984"
    example = {
        "vocab": 50,
        "width": 8,
        "position": {"kind": "position/learned", "length": 64},
        "norm": {"kind": "norm/layer"},
    }

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        vocab: int,
        width: int,
        position: Spec,
        norm: Spec,
        types: int = 0,
        dropout: float = 0.0,
        span: int = 3,
    ):
        super().__init__(dim, heads)
        if span % 2 == 0:
            raise ValueError(f"a span of {span} tokens has no middle: choose an odd number")
        self.span, self.table, self.project = span, Embedding(vocab, width), Linear(span * width, dim)
        self.types = Embedding(types, dim) if types else None
        self.position, self.norm = position.build(dim, heads, dim // heads), norm.build(dim)
        self.drop = Dropout(dropout)

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        e_BTE, far = self.table(token_BT), self.span // 2
        near = [layout.shift(e_BTE, by) for by in range(far, -far - 1, -1)]
        x_BTD = self.position.add(self.project(torch.cat(near, -1)), layout)
        if self.types is not None:
            x_BTD = x_BTD + self.types(token_BT.new_zeros(()) if layout.type_BT is None else layout.type_BT)
        return self.drop(self.norm(x_BTD, layout))
