"""Where weights start."""

import re

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


@torch.no_grad()
def initialise(model: nn.Module, method: Init, seed: int, prefix: str = "") -> None:
    """Fill every parameter: each from a generator seeded by its path, so that no order of building matters."""
    for path, tensor in model.named_parameters():
        if tensor.is_meta:
            continue
        found = re.search(r"(?:^|\.)layers\.(\d+)\.", path)
        layer = int(found[1]) if found else None
        method.fill(path, tensor, layer, torch.Generator(tensor.device).manual_seed(draw(seed, "init", prefix + path)))


init = Slot(__name__, Init)
