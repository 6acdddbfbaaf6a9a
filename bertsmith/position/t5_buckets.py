"""A learned number per head and bucket of distances, added to the scores; near distances have buckets of their own.

score(i, j) = table[bucket(j - i), head]

T5, Raffel et al. 2019, arXiv:1910.10683, section 2.1; half of the buckets are for each direction, half of these for single
distances, the others grow with the logarithm up to `far`, from where on all are alike. MPNet, Song et al. 2020,
arXiv:2004.09297, has the same. One table for all layers: `share=["**.mixer.position"]` in the encoder.

B rows, T readers, S read, N heads, H head width.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Embedding
from bertsmith.position import Position


class T5Buckets(Position):
    """Raises ValueError unless the buckets are an even number and those of single distances end before `far`."""

    paper = "arXiv:1910.10683"

    def __init__(self, dim: int, heads: int, head_dim: int, *, buckets: int = 32, far: int = 128):
        super().__init__(dim, heads, head_dim)
        if buckets < 4 or buckets % 2 or buckets // 4 >= far:
            raise ValueError(f"{buckets} buckets up to a distance of {far}: say an even number from 4, below 4 x {far}")
        self.table, self.buckets, self.far = Embedding(buckets, heads), buckets, far

    def score(
        self,
        q_BNTH: Tensor,
        k_BNSH: Tensor,
        layout: Layout,
        to: Layout,
        project: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        return self._term_BNTS(layout, to)

    def bucket(self, distance: Tensor) -> Tensor:
        """int64 in [0, buckets) of reader - read."""
        half = self.buckets // 2
        exact = half // 2
        n = distance.abs()
        # in float32 and in this order, as trained models counted
        log = torch.log(n.clamp(min=exact).float() / exact) / math.log(self.far / exact) * (half - exact)
        far = (exact + log.long()).clamp(max=half - 1)
        return (distance < 0) * half + torch.where(n < exact, n, far)

    def _term_BNTS(self, layout: Layout, to: Layout) -> Tensor:
        """Made once a pass for all layers with this table, the buckets for all that count alike."""

        def buckets() -> Tensor:
            return self.bucket(layout.distance_BTT(to))

        def terms() -> Tensor:
            bucket_BTS = layout.once(("t5_buckets", self.buckets, self.far, id(to)), buckets)
            return self.table(bucket_BTS).permute(0, 3, 1, 2)

        return layout.once(("t5_term", id(self), id(to)), terms)
