"""Activations: what a feed-forward or a head does to each number."""

import torch
from torch import Tensor, nn

from bertsmith.spec import Slot, Spec


class Act(nn.Module):
    """x -> y of the same shape, number by number."""

    paper = ""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def curve(self, low: float = -5.0, high: float = 5.0, points: int = 101) -> list[tuple[float, float]]:
        """[(x, y)] from `low` to `high`, to be plotted or written to a file: what a learned activation has become."""
        like = next(self.parameters(), torch.zeros(()))
        x = torch.linspace(low, high, points)
        y = self(x.to(device=like.device, dtype=like.dtype))
        return list(zip(x.tolist(), y.tolist(), strict=True))


act = Slot(__name__, Act)


def build_act(said: Spec | str) -> Act:
    """The module of a setting `act`: a Spec, or the name of a kind alone, "gelu", which means its defaults."""
    return (act(said) if isinstance(said, str) else said).build()


def curves(
    model: nn.Module, low: float = -5.0, high: float = 5.0, points: int = 101
) -> dict[str, list[tuple[float, float]]]:
    """The curve of every activation of a model, by its path: "layers.0.ffn.act"."""
    return {path: m.curve(low, high, points) for path, m in model.named_modules() if isinstance(m, Act)}
