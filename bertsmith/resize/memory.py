"""A trained encoder gets a memory: it reads long documents segment by segment from then on, with M new vectors to carry along.

RMT, Bulatov et al. 2022, arXiv:2207.06881, section 3.2; a trained BERT as in Bulatov et al. 2023, arXiv:2304.11062, section 4.
"""

from collections.abc import Callable

from torch import Tensor, nn

from bertsmith.encoder import encoder
from bertsmith.linear import tensors as named
from bertsmith.resize import Resize
from bertsmith.spec import Spec


class AddMemory(Resize):
    """Settings are those of `encoder/memory`. All weights stay; the new vectors start as the encoder's `init` says, and have no
    moments. A table of positions must have rows for the memory and a segment.
    """

    paper = "arXiv:2207.06881"
    example = {"length": 6, "memory": 2}

    def __init__(self, *, length: int, memory: int, through: int = 0):
        self.length, self.memory, self.through = length, memory, through

    def __call__(
        self, spec: Spec, tensors: dict[str, Tensor], build: Callable[[Spec], nn.Module], role: str = "weight"
    ) -> tuple[Spec, dict[str, Tensor]]:
        wide = encoder("memory", inner=spec, length=self.length, memory=self.memory, through=self.through)
        new = {"encoder.memory": named(build(wide))["encoder.memory"].detach()} if role == "weight" else {}
        return wide, tensors | new
