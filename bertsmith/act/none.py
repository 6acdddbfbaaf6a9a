"""x itself; a gated unit with it is bilinear.  Shazeer 2020, arXiv:2002.05202, eq. 5."""

from torch import Tensor

from bertsmith.act import Act


class NoAct(Act):
    paper = "arXiv:2002.05202"

    def forward(self, x: Tensor) -> Tensor:
        return x
