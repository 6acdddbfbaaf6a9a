"""Learned places in the text and on the page: rows of tables for the order and for the box of each token, added.

    x + P[t] + X[x0] + Y[y0] + X[x1] + Y[y1] + H[y1 - y0] + W[x1 - x0]

LayoutLM, Xu et al. 2019, arXiv:1912.13318, section 2.2; the height and the width as in its code.

B rows, T tokens, D width.
"""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.linear import Embedding
from bertsmith.position import Position


class Layout2D(Position):
    """Reads `layout.extra["box"]`, int64 [B, T, 4]: (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, in 0 to `size` - 1.

    Without it every box is (0, 0, 0, 0). `length`: places in the text.
    """

    paper = "arXiv:1912.13318"

    def __init__(self, dim: int, heads: int, head_dim: int, *, length: int = 512, size: int = 1024):
        super().__init__(dim, heads, head_dim)
        self.table = Embedding(length, dim)
        self.x, self.y, self.h, self.w = (Embedding(size, dim) for _ in "xyhw")

    def add(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        given = "box" in layout.extra
        box_BT4 = layout.extra["box"] if given else layout.position_BT.new_zeros(*layout.position_BT.shape, 4)
        left_BT, top_BT, right_BT, bottom_BT = box_BT4.unbind(-1)
        x_BTD = x_BTD + self.table(layout.position_BT) + self.x(left_BT) + self.y(top_BT)
        x_BTD = x_BTD + self.x(right_BT) + self.y(bottom_BT)
        return x_BTD + self.h(bottom_BT - top_BT) + self.w(right_BT - left_BT)
