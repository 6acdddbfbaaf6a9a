"""How order enters: added to the embedding, turned into q and k, or a term of the scores."""

from collections.abc import Callable

from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Slot


class Position(nn.Module):
    """A method changes one of `add`, `rotate`, `score`; the others do nothing.

    Args:
        dim: width of what `add` is given.
        heads, head_dim: of the attention that asks for `rotate` and `score`.

    Attributes:
        terms: how many terms the content score is averaged with: it is divided by sqrt(head_dim * terms).
        uses: which of the mixer's Linears, "q" and "k", the score also puts other things through, so that they no longer
            read the mixer's input alone.
    """

    paper = ""
    terms = 1
    uses: tuple[str, ...] = ()

    def __init__(self, dim: int, heads: int, head_dim: int):
        super().__init__()

    def prepare(self, layout: Layout) -> None:
        """Called once a pass, before the first layer: what all layers need alike goes into the scratch."""

    def add(self, x_BTD: Tensor, layout: Layout) -> Tensor:
        return x_BTD

    def rotate(self, x_BNTH: Tensor, layout: Layout) -> Tensor:
        """Called for q and for k, which may have different layouts."""
        return x_BNTH

    def score(
        self,
        q_BNTH: Tensor,
        k_BNSH: Tensor,
        layout: Layout,
        to: Layout,
        project: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    ) -> Tensor | None:
        """A term of the scores, B N T S, already divided by its scale; q and k are not rotated.

        `project` = (to_q, to_k): the mixer's own projections to heads, for methods that share them (DeBERTa-v2).
        """
        return None


position = Slot(__name__, Position)
