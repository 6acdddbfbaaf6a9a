"""ALiBi: a penalty that grows with the distance, the same for all content: score -= m_head |i - j|, with nothing learned.

Press et al. 2021, arXiv:2108.12409, section 3. The slopes m are 2^(-8 n / N) for n = 1 .. N heads; where N is no power of two,
those of the next smaller power, then every second one of the next larger (the paper's code).

Differs from the paper: |i - j| in both directions, as MosaicBERT has it for encoders (Portes et al. 2023, arXiv:2312.17482).

B rows, N heads, T tokens, S tokens read.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.position import Position


def slopes(heads: int) -> list[float]:
    """m of every head, steepest first."""
    power = 2 ** (heads.bit_length() - 1)
    first = [2.0 ** (-8 * (n + 1) / power) for n in range(power)]
    return first if power == heads else first + slopes(2 * power)[0::2][: heads - power]


class ALiBi(Position):
    paper = "arXiv:2108.12409"

    def __init__(self, dim: int, heads: int, head_dim: int):
        super().__init__(dim, heads, head_dim)
        self.slopes = slopes(heads)

    def score(
        self,
        q_BNTH: Tensor,
        k_BNSH: Tensor,
        layout: Layout,
        to: Layout,
        project: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        return self._term(layout) if to is layout else self._make(layout.distance_BTT(to))

    def _term(self, layout: Layout) -> Tensor:
        """Made once a pass for all layers with as many heads."""
        return layout.once(("alibi", len(self.slopes)), lambda: self._make(layout.distance_BTT()))

    def _make(self, distance_BTS: Tensor) -> Tensor:
        slope_N = torch.tensor(self.slopes, device=distance_BTS.device)
        return -slope_N[:, None, None] * distance_BTS.abs()[:, None]
