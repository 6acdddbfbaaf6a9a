"""How gradients become steps."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bertsmith.spec import Slot


class Groups:
    """What an optimiser of torch is asked for where it takes no step itself: making one imports torch's compiler, and that
    takes longer than a short fine-tuning may.
    """

    def __init__(self, groups: list[dict[str, Any]]):
        self.param_groups = groups
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)


class Optim:
    """Steps on the fp32 masters, by name. A method builds `self.torch`, a torch optimiser, or changes `step`.

    Args:
        params: name -> master; what is trained, and nothing else.
    """

    paper = ""
    torch: torch.optim.Optimizer | Groups
    paired = False  # the gradients are those of bf16 copies, which `step` also writes

    def __init__(self, params: dict[str, Tensor]):
        self.params = params

    def step(self, closure: Callable[[], float], factor: float) -> float:
        """One step at `factor` times the learning rate. `closure()` sets the gradients and returns the loss."""
        loss = closure()
        for group in self.torch.param_groups:
            group["lr"] = group["peak"] * factor
        assert isinstance(self.torch, torch.optim.Optimizer)
        self.torch.step()
        return loss

    def rate(self) -> float:
        """The learning rate of the last step, as it is logged: that of the first group."""
        return self.torch.param_groups[0]["lr"]

    def pair(self, copies: dict[str, Tensor]) -> bool:
        """Take the bf16 copies of the masters by name, if this optimiser can; whether it did. `clip` is then to be called."""
        return False

    def clip(self, most: float) -> float:
        """Scale the copies' gradients, in the next step, to a norm of at most `most`; the norm that they have."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Everything kept about each parameter, step counts too: "<name>/<what>" -> tensor."""
        kept = self.torch.state
        return {f"{n}/{what}": v for n, p in self.params.items() if p in kept for what, v in kept[p].items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`; parameters without an entry start anew."""
        for key, value in state.items():
            name, _, what = key.rpartition("/")
            self.torch.state[self.params[name]][what] = value.clone()


def decayed(params: dict[str, Tensor], decay: float) -> list[dict]:
    """Two groups: matrices and tables, which decay, and biases and norm weights, which do not."""
    return [
        {"params": [p for p in params.values() if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in params.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]


optim = Slot(__name__, Optim)
