"""Logits over the vocabulary by one linear layer: W h + c, with W of its own or the token table.

Tied, as in crammed BERT, Geiping & Goldstein 2022, arXiv:2212.14034, section 4.2 (no layer between); of its own as in NeoBERT,
Le Breton et al. 2025, arXiv:2502.19587, and EuroBERT, Boizard et al. 2025, arXiv:2503.05500 (their code).
"""

import torch
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.layout import Layout
from bertsmith.linear import Linear


class LMLinear(Head):
    """`tied`: W is the encoder's table, which must be as wide as its states; `bias` is c. Raises ValueError if it is not."""

    paper = "arXiv:2212.14034"
    each = "token"
    speaks = True

    def __init__(self, encoder: Encoder, labels: int, *, tied: bool = True, bias: bool = False):
        super().__init__(encoder, labels)
        vocab, width = encoder.embedding.table.weight.shape
        if tied and width != encoder.dim:
            raise ValueError(
                f"head/lm_linear: a table of width {width} cannot read states of width {encoder.dim}: untie it"
            )
        self.table = encoder.embedding.table if tied else Linear(encoder.dim, vocab, False)
        self.bias = nn.Parameter(torch.zeros(vocab)) if bias else None

    def logits(self, h_ND: Tensor, layout: Layout) -> Tensor:
        """h [..., D] -> [..., V]."""
        return kernels.logits(h_ND, self.table.edited()[0], self.bias)

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return self.logits(x_BTD, layout)
