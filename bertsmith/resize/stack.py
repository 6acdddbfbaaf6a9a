"""Progressive stacking: the trained layers are copied on top of themselves, layer i + t L = layer i.

StackBERT, Gong et al. 2019, Efficient Training of BERT by Progressively Stacking, PMLR 97:2337, section 3.1.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bertsmith.linear import tensors as named
from bertsmith.resize import Resize
from bertsmith.spec import Spec


class StackLayers(Resize):
    """`times`: how many copies of the stack there are afterwards. Moments are copied as weights are."""

    paper = "PMLR 97:2337"

    def __init__(self, *, times: int = 2):
        if times < 2:
            raise ValueError(f"resize/stack: times is at least 2, not {times}")
        self.times = times

    def __call__(
        self, spec: Spec, tensors: dict[str, Tensor], build: Callable[[Spec], nn.Module], role: str = "weight"
    ) -> tuple[Spec, dict[str, Tensor]]:
        if "depth" not in spec.args or "blocks" not in spec.args:
            raise ValueError(f"resize/stack copies the layers of encoder/stack, not of {spec.slot.name}/{spec.kind}")
        depth, blocks = spec.args["depth"], spec.args["blocks"]
        # layer i + depth is to be a copy of layer i, also where the blocks do not go into the depth
        tiled = blocks if depth % len(blocks) == 0 else [blocks[i % len(blocks)] for i in range(depth)]
        larger = spec.replace("depth", self.times * depth).replace("blocks", tiled)
        grown = dict(tensors)
        for name, tensor in tensors.items():
            if found := re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)", name):
                for t in range(1, self.times):
                    grown[f"encoder.layers.{int(found[1]) + t * depth}.{found[2]}"] = tensor.clone()
        with torch.device("meta"):
            there = named(build(larger)).keys()
        # what layers share has one name, in the first of them
        return larger, {name: tensor for name, tensor in grown.items() if name in there or name in tensors}
