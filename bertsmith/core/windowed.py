"""Local attention: a token reads at most window // 2 places on each side, in time and memory T * window.

Beltagy et al. 2020, arXiv:2004.05150, section 3.1 ("sliding window"); Hofstaetter et al. 2020, arXiv:2005.04908, section 3, for
ranking long documents (TKL). The same numbers as `mixer/attention` with `window`, which makes a T x T mask.

Differs from TKL: every token has its own window, where the paper's tokens read all of their chunk and of its overlaps. Windows
that hold padding alone are not skipped: packed rows hold none.
"""

from torch import Tensor

from bertsmith.core import Core
from bertsmith.layout import Layout
from bertsmith.rows import windowed


class Windowed(Core):
    """`window`: the tokens read, half of them on each side, beside the token itself."""

    paper = "arXiv:2004.05150"
    dense = False
    example = {"window": 4}

    def __init__(self, heads: int, head_dim: int, dropout: float, *, window: int):
        super().__init__(heads, head_dim, dropout)
        if window < 2 or window % 2:
            raise ValueError(f"core/windowed: the window is an even number of tokens, at least 2, not {window}")
        self.reach = window // 2

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, layout: Layout
    ) -> Tensor:
        p = self.dropout if self.training else 0.0
        return windowed(q_BNTH, k_BNSH, v_BNSH, layout, self.reach, scale, p)
