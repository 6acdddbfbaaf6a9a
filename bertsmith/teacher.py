"""A slower copy of what is trained, v <- b v + (1 - b) w, that predicts beside it and is never trained itself.

Mean teacher, Tarvainen & Valpola 2017, arXiv:1703.01780, section 2.
"""

import copy

import torch
from torch import Tensor, nn

from bertsmith.encoder import Encoder
from bertsmith.objective import Batch, Objective


class Pair(nn.Module):
    """An encoder and the objective on it, under one root."""

    def __init__(self, encoder: Encoder, objective: Objective):
        super().__init__()
        self.encoder, self.objective = encoder, objective


class Teacher(nn.Module):
    """Made of the weights that are there; it takes the values of the first pair that it follows, whatever b is.

    Its weights are buffers, so that they are saved and resumed and no optimiser sees them. They stay in fp32 beside a model
    in bf16, whose precision is too low to move slowly.
    """

    begun: Tensor

    def __init__(self, encoder: Encoder, objective: Objective):
        super().__init__()
        self.copy = copy.deepcopy(Pair(encoder, objective))
        made: dict[nn.Parameter, Tensor] = {}
        for module in self.copy.modules():
            for name, p in list(module._parameters.items()):
                if p is not None:  # one tensor for what is tied
                    del module._parameters[name]
                    module.register_buffer(name, made.setdefault(p, p.detach().clone()))
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, encoder: Encoder, objective: Objective, beta: float) -> None:
        """Move towards what is trained. Raises ValueError if weights train there that the copy does not have."""
        pair, held = Pair(encoder, objective), dict(self.copy.named_buffers())
        weights, others = dict(pair.named_parameters()), dict(pair.named_buffers())
        if new := [name for name, p in weights.items() if p.requires_grad and name not in held]:
            raise ValueError(
                f"there is no slower copy of {', '.join(new[:3])}: it is made before edits and grafts are, so that these "
                "must not train beside it"
            )
        for name, tensor in held.items():
            if name in weights and self.begun:
                tensor.lerp_(weights[name].to(tensor.dtype), 1 - beta)
            else:
                tensor.copy_((weights | others)[name])
        self.begun.fill_(1)

    @torch.no_grad()
    def predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the copy predicts, without dropout."""
        self.copy.eval()
        return self.copy.objective.predict(self.copy.encoder, batch)
