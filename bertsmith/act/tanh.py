"""tanh(x), as in the pooler of BERT.  Devlin et al. 2018, arXiv:1810.04805 (its code)."""

from torch import Tensor

from bertsmith.act import Act


class Tanh(Act):
    paper = "arXiv:1810.04805"

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()
