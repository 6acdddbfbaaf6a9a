"""What keeps activations in range."""

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Norm(nn.Module):
    """(x_BTD, layout) -> y_BTD, token-wise, finite in bf16."""

    paper = ""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        raise NotImplementedError

    def affine(self) -> tuple[Tensor, Tensor] | None:
        """(scale_D, shift_D) of a norm that is y = x * scale + shift in evaluation, so that it can be folded; else None."""
        return None


norm = Slot(__name__, Norm)
