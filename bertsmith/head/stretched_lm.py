"""Logits over the vocabulary where the token table is narrower than the encoder: h [E ; R]' + c, R what E lacks in width.

    h = norm(act(W x + b)), as wide as the encoder; E is the token table (tied), R a table of the rest

MobileBERT, Sun et al. 2020, arXiv:2004.02984 (its code).
"""

import torch
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.act import build_act
from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.spec import Spec


class StretchedLM(Head):
    """`table` is the encoder's own table; a root that holds both saves it once, under the encoder's name."""

    paper = "arXiv:2004.02984"
    each = "token"
    speaks = True
    example = {"norm": {"kind": "norm/layer"}}

    def __init__(self, encoder: Encoder, labels: int, *, norm: Spec, act: Spec | str = "relu"):
        super().__init__(encoder, labels)
        self.table = encoder.embedding.table
        vocab, self.width = self.table.weight.shape
        self.dense, self.norm, self.act = Linear(encoder.dim, encoder.dim), norm.build(encoder.dim), build_act(act)
        more = encoder.dim - self.width
        self.rest, self.bias = Linear(more, vocab, bias=False) if more else None, nn.Parameter(torch.zeros(vocab))

    def logits(self, h_ND: Tensor, layout: Layout) -> Tensor:
        """h [..., D] -> [..., V]."""
        h = self.norm(self.act(self.dense(h_ND)), layout)
        y = kernels.logits(h[..., : self.width], self.table.edited()[0], self.bias)
        return y if self.rest is None else y + self.rest(h[..., self.width :])

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.logits(x_BTD, layout)
