"""Larger or smaller: (spec, tensors) -> (spec, tensors). The result is an ordinary spec that saves and loads."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bertsmith.spec import Slot, Spec


class Resize:
    """Called by the loop once for the weights and once for each kind of optimiser state, so that both change alike.

    tensors are keyed encoder.* and objective.*: what is trained with the encoder changes size with it.
    build(spec) gives a module of both; on the meta device it is free.
    role: "weight", "gradient" (first moments), "square" (second moments).

    Attributes:
        keeps_function: the resized model computes what the old one did.
        needs: dotted path in the encoder's spec -> plain description of what must stand there, where not every encoder will do.
    """

    paper = ""
    keeps_function = False
    needs: dict[str, Any] = {}

    def __call__(
        self, spec: Spec, tensors: dict[str, Tensor], build: Callable[[Spec], nn.Module], role: str = "weight"
    ) -> tuple[Spec, dict[str, Tensor]]:
        raise NotImplementedError


def resized(
    method: Resize,
    spec: Spec,
    tensors: dict[str, Tensor],
    moments: dict[str, Tensor],
    build: Callable[[Spec], nn.Module],
) -> tuple[Spec, dict[str, Tensor], dict[str, Tensor]]:
    """Weights and Adam's state ("<tensor>/<what>") through one map; a new tensor takes the largest step count."""
    larger, weights = method(spec, tensors, build, "weight")
    state: dict[str, Tensor] = {}
    for what, role in (("exp_avg", "gradient"), ("exp_avg_sq", "square")):
        part = {k.rpartition("/")[0]: v for k, v in moments.items() if k.endswith("/" + what)}
        new = method(spec, part, build, role)[1] if part else {}
        state |= {f"{name}/{what}": v for name, v in new.items()}
    steps = {k: v for k, v in moments.items() if k.endswith("/step")}
    for name in {k.rpartition("/")[0] for k in state}:
        state[f"{name}/step"] = steps.get(f"{name}/step", max(steps.values(), default=torch.zeros(())))
    return larger, weights, state


resize = Slot(__name__, Resize)
