"""Features of each word's characters, by a convolution and its maximum, for any token head: inner(x + U c).

    c_f = max_k (W [e_(k-h) ; ... ; e_(k+h)] + b)_f       over the characters k of the token's word, 0 outside it

Ma & Hovy 2016, End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF, arXiv:1603.01354, section 2.1, with its sizes
and starts; head("crf", inner=head("char_cnn", inner=head("rnn"))) is the whole of it.

Differs from the paper: characters are bytes of UTF-8, so that no alphabet is fixed. c is not put beside x but added through U,
which is the same for an inner head that begins with a linear layer (W [x; c] = W x + W U c), and starts at 0.

B rows, T tokens, K bytes of a word at the most, E width of a byte, F filters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.encoder import Encoder
from bertsmith.head import Head
from bertsmith.head import head as heads
from bertsmith.kernels import generator
from bertsmith.layout import Layout
from bertsmith.linear import Dropout, Embedding, Linear
from bertsmith.spec import Spec


class CharCNN(Head):
    """`inner` is the head that sees the characters too, None: `head/token`. It starts as that head alone.

    `fact`: name of the characters in the layout's `extra`, [B, T, K]: of the word of each token its bytes, each + 1, then 0.
    A task says them: `task("tagging", characters=24)`. `width` is E, `filters` F, `span` 2 h + 1.
    """

    paper = "arXiv:1603.01354"
    each = "token"
    starts = ("table.weight", "conv.weight", "conv.bias", "join.weight", "join.bias")

    def __init__(
        self,
        encoder: Encoder,
        labels: int,
        *,
        inner: Spec | None = None,
        fact: str = "characters",
        width: int = 30,
        filters: int = 30,
        span: int = 3,
        dropout: float = 0.1,
    ):
        super().__init__(encoder, labels)
        if span % 2 == 0:
            raise ValueError(f"head/char_cnn: a span of {span} characters has no middle: choose an odd number")
        self.inner, self.fact, self.span = (inner or heads("token")).build(encoder, labels), fact, span
        self.table, self.conv = Embedding(257, width), Linear(span * width, filters)
        self.join, self.drop = Linear(filters, encoder.dim), Dropout(dropout)
        with torch.no_grad():
            for p in (*self.conv.parameters(), *self.join.parameters()):
                nn.init.zeros_(p)
            for weight, far in ((self.table.weight, 3 / width), (self.conv.weight, 6 / (span * width + filters))):
                nn.init.uniform_(weight, -(far**0.5), far**0.5, generator=generator())

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        if self.fact not in layout.extra:
            raise ValueError(
                f"head/char_cnn: nothing says the {self.fact!r} of words; ask the task for them: "
                "task('tagging', characters=24)"
            )
        byte_BTK = layout.extra[self.fact].long()
        there_BTK1 = (byte_BTK > 0)[..., None]
        e_BTKE = self.drop(self.table(byte_BTK)) * there_BTK1
        far, K = self.span // 2, byte_BTK.shape[-1]
        near = F.pad(e_BTKE, (0, 0, far, far))
        y_BTKF = self.conv(torch.cat([near[:, :, k : k + K] for k in range(self.span)], -1))
        c_BTF = y_BTKF.masked_fill(~there_BTK1, torch.finfo(y_BTKF.dtype).min).amax(2)
        return self.inner(x_BTD + self.join(c_BTF * there_BTK1.any(2)), layout)
