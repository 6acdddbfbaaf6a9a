"""Larger or smaller: (spec, tensors) -> (spec, tensors). The result is an ordinary spec that saves and loads."""

from collections.abc import Callable

from torch import Tensor, nn

from bertsmith.spec import Slot, Spec


class Resize:
    """Called by the loop once for the weights and once for each kind of optimiser state, so that both change alike.

    tensors are keyed encoder.* and objective.*: what is trained with the encoder changes size with it.
    build(spec) gives a module of both; on the meta device it is free.
    role: "weight", "gradient" (first moments), "square" (second moments).

    Attributes:
        keeps_function: the resized model computes what the old one did.
    """

    paper = ""
    keeps_function = False

    def __call__(
        self, spec: Spec, tensors: dict[str, Tensor], build: Callable[[Spec], nn.Module], role: str = "weight"
    ) -> tuple[Spec, dict[str, Tensor]]:
        raise NotImplementedError


resize = Slot(__name__, Resize)
