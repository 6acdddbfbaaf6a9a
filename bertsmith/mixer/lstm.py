"""No attention: two LSTMs read every document, one forwards and one backwards, and a linear layer puts them together.

    y_t = W [h_t ; h'_t] + b,   h_t = LSTM(x_t, h_(t-1)),   h'_t = LSTM'(x_t, h'_(t+1))

The recurrent encoder beside the Transformer in UER, Zhao et al. 2019, arXiv:1909.05658; Hochreiter & Schmidhuber 1997.
"""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer
from bertsmith.recurrent import both_ways, lstm


class BothWays(Mixer):
    """`hidden`: the width of a direction, 0: half the encoder's. `heads` has no meaning here."""

    paper = "arXiv:1909.05658"

    def __init__(self, dim: int, heads: int, *, hidden: int = 0):
        super().__init__(dim, heads)
        hidden = hidden or -(-dim // 2)
        self.ahead, self.back, self.out = lstm(dim, hidden), lstm(dim, hidden), Linear(2 * hidden, dim)
        self.starts = tuple(f"{way}.{n}" for way in ("ahead", "back") for n, _ in self.ahead.named_parameters())

    def forward(self, x_BTD: Tensor, layout: Layout, source: tuple[Tensor, Layout] | None = None) -> Tensor:
        s_BSD, to = source or (x_BTD, layout)
        if s_BSD.shape[1] != x_BTD.shape[1]:
            raise ValueError(f"mixer/lstm reads a source of the same {x_BTD.shape[1]} tokens, not of {s_BSD.shape[1]}")
        return self.out(both_ways(self.ahead, self.back, s_BSD, to))
