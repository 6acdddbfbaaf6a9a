"""No normalisation: y = x (post-norm stacks need no final norm). Xiong et al. 2020, arXiv:2002.04745, fig. 1a."""

from torch import Tensor

from bertsmith.layout import Layout
from bertsmith.norm import Norm


class NoNorm(Norm):
    paper = "arXiv:2002.04745"

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return x_BTD
