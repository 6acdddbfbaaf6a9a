"""Several processes on one machine or many, as `torchrun` starts them; one process is the same with a world of 1."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process's number and how many there are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> "World":
        """The world that `torchrun` describes in the environment, or a world of one."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def mean_(self, tensors: list[Tensor]) -> None:
        """Replace tensors, which are the same list on every rank, by their mean over the ranks: one message in all."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def sum(self, numbers: list[float]) -> list[float]:
        """Each number added up over the ranks, the same on all, so that all see the same budget spent."""
        if self.size == 1:
            return numbers
        device = "cuda" if torch.cuda.is_available() else "cpu"
        held = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(held)
        return held.tolist()

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            dist.barrier()
