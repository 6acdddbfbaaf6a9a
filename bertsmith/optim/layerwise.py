"""A learning rate for each layer, smaller the lower it lies: lr_(l-1) = decay lr_l, around any optimiser.

ULMFiT, Howard & Ruder 2018, arXiv:1801.06146, section 3.2 ("discriminative fine-tuning", decay = 1 / 2.6); Sun et al. 2019,
arXiv:1905.05583 (BERT, decay = 0.95).

The head, what else the objective owns, and the final norm have the rate of the top layer, the embedding that below the lowest.
"""

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from bertsmith.optim import Optim
from bertsmith.spec import Spec


class Layerwise(Optim):
    """`lr`: the rate of the top layer, in place of the inner one's. `depth`: how many layers there are; 0: the highest that
    trains is the top.
    """

    paper = "arXiv:1801.06146"
    example: dict[str, Any] = {"inner": {"kind": "optim/adamw"}}

    def __init__(
        self, params: dict[str, Tensor], *, inner: Spec, lr: float = 5e-5, decay: float = 0.95, depth: int = 0
    ):
        super().__init__(params)
        if not 0 < decay <= 1:
            raise ValueError(f"optim/layerwise: decay lies in (0, 1], not at {decay}")
        built: Optim = inner.replace("lr", lr).build(params)
        self.inner = built
        layer = {id(p): _layer(name) for name, p in params.items()}
        depth = depth or 1 + max((n for n in layer.values() if n is not None), default=-1)
        groups = []
        for group in built.torch.param_groups:
            down: dict[int, list[Tensor]] = {}  # steps below the top -> parameters
            for p in group["params"]:
                n = layer[id(p)]
                down.setdefault(0 if n is None else depth - 1 - n, []).append(p)
            groups += [group | {"params": ps, "peak": group["peak"] * decay**k} for k, ps in down.items()]
        # the first group's rate is the one that is logged
        built.torch.param_groups[:] = sorted(groups, key=lambda g: -g["peak"])

    def step(self, closure: Callable[[], float], factor: float) -> float:
        return self.inner.step(closure, factor)

    def pair(self, copies: dict[str, Tensor]) -> bool:
        self.paired = self.inner.pair(copies)
        return self.paired

    def clip(self, most: float) -> float:
        return self.inner.clip(most)

    def rate(self) -> float:
        return self.inner.rate()

    def state(self) -> dict[str, Tensor]:
        return self.inner.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self.inner.load(state)


def _layer(name: str) -> int | None:
    """The layer that a parameter is of, -1 for the embedding; None for what stands on top."""
    if found := re.search(r"^encoder\.layers\.(\d+)\.", name):
        return int(found[1])
    return -1 if name.startswith("encoder.embedding.") else None
