"""Logits over the vocabulary: norm(act(W h + b)) E' + c, with E the token table (tied).

BERT, Devlin et al. 2018, arXiv:1810.04805, section 3.1 (its code); tying as Press & Wolf 2016, arXiv:1608.05859.
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


class MaskedLMHead(Head):
    """`table` is the encoder's own; a root that holds both saves it once, under the encoder's name.

    `bias` is b, `out_bias` is c."""

    paper = "arXiv:1810.04805"
    each = "token"
    speaks = True
    example = {"norm": {"kind": "norm/layer"}}

    def __init__(
        self,
        encoder: Encoder,
        labels: int,
        *,
        norm: Spec,
        act: Spec | str = "gelu",
        bias: bool = True,
        out_bias: bool = True,
    ):
        super().__init__(encoder, labels)
        self.table = encoder.embedding.table
        vocab, width = self.table.weight.shape
        self.dense, self.norm = Linear(encoder.dim, width, bias), norm.build(width)
        self.act, self.bias = build_act(act), nn.Parameter(torch.zeros(vocab)) if out_bias else None

    def logits(self, h_ND: Tensor, layout: Layout) -> Tensor:
        """h [..., D] -> [..., V]: for some positions only, which is where training and filling spend their time."""
        h = self.norm(self.act(self.dense(h_ND)), layout)
        return kernels.logits(h, self.table.edited()[0], self.bias)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.logits(x_BTD, layout)
