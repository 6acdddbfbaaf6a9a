"""Where weights start."""

import re
from collections.abc import Collection
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bertsmith.draw import draw
from bertsmith.spec import Slot


class Init:
    """`fill(path, tensor, layer, rng)` sets one tensor in place; layer is None outside the stack.

    Args:
        dim: width D of the encoder.
        depth: its number of layers.
    """

    paper = ""

    def __init__(self, dim: int, depth: int):
        self.dim, self.depth = dim, depth

    def fill(self, path: str, tensor: Tensor, layer: int | None, rng: torch.Generator) -> None:
        raise NotImplementedError

    def fill_vector(self, path: str, tensor: Tensor) -> None:
        """What nearly all do with tensors that are no matrices: biases 0, norm weights 1."""
        tensor.fill_(0.0 if path.endswith("bias") else 1.0)


@runtime_checkable
class Starts(Protocol):
    """A piece with parameters that start at values of their own, which no init may fill: `starts` names them."""

    starts: tuple[str, ...]


@torch.no_grad()
def initialise(model: nn.Module, method: Init, seed: int, prefix: str = "", known: Collection[str] = ()) -> None:
    """Fill every parameter but those that a piece keeps (`Starts`) and the `known` ones, which are loaded next: each from a
    generator seeded by its path, so that no order of building matters."""
    kept = {f"{path}.{name}" for path, m in model.named_modules() if isinstance(m, Starts) for name in m.starts}
    for path, tensor in model.named_parameters():
        if tensor.is_meta or path in kept or path in known:
            continue
        found = re.search(r"(?:^|\.)layers\.(\d+)\.", path)
        layer = int(found[1]) if found else None
        method.fill(path, tensor, layer, torch.Generator(tensor.device).manual_seed(draw(seed, "init", prefix + path)))


init = Slot(__name__, Init)
