"""Activations: what a feed-forward or a head does to each number."""

from torch import Tensor, nn

from bertsmith.spec import Slot, Spec


class Act(nn.Module):
    """x -> y of the same shape, number by number."""

    paper = ""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


act = Slot(__name__, Act)


def build_act(said: Spec | str) -> Act:
    """The module of a setting `act`: a Spec, or the name of a kind alone, "gelu", which means its defaults."""
    return (act(said) if isinstance(said, str) else said).build()
