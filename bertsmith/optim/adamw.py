"""AdamW: Adam with decoupled weight decay.  Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2.

Biases and norm weights are not decayed (BERT's code). One pass over memory a step: torch's fused form or, of bf16 copies on a
CPU, the compiled one (native/update.cpp), which reads their gradients and writes them as well.
"""

from collections.abc import Callable
from ctypes import Array
from typing import Any

import torch
from torch import Tensor

from bertsmith.native import step as compiled
from bertsmith.optim import Groups, Optim, decayed

Due = tuple[compiled.StepUpdate, dict[str, Any], dict[str, Tensor]]  # arrays, group, state


class AdamW(Optim):
    paper = "arXiv:1711.05101"

    def __init__(
        self,
        params: dict[str, Tensor],
        *,
        lr: float = 1e-4,
        betas: list[float] = [0.9, 0.999],  # noqa: B006
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params)
        groups = [g | {"peak": lr, "lr": lr} for g in decayed(params, weight_decay) if g["params"]]
        self.betas, self.eps = (betas[0], betas[1]), eps
        self.torch = Groups(groups)
        self.copies: dict[Tensor, Tensor] = {}
        self.flags: dict[Tensor, Tensor] = {}
        self.scale = 1.0
        self.due: list[Due] = []

    def pair(self, copies: dict[str, Tensor]) -> bool:
        dense = all(p.device.type == "cpu" and p.is_contiguous() for p in (*self.params.values(), *copies.values()))
        if compiled.why_not() or not dense or any(c.dtype != torch.bfloat16 for c in copies.values()):
            return False
        self.copies = {p: copies[n] for n, p in self.params.items()}
        self.flags = {p: torch.zeros(-(-p.numel() // compiled.PIECE), dtype=torch.uint8) for p in self.copies}
        self.paired = True
        return True

    def clip(self, most: float) -> float:
        self.due = self._tensors()
        norm = compiled.norm(self._array())
        self.scale = min(1.0, most / (norm + 1e-6))
        return norm

    def step(self, closure: Callable[[], float], factor: float) -> float:
        if not self.paired:
            self._take_torchs()
            return super().step(closure, factor)
        loss = closure()
        for group in self.torch.param_groups:
            group["lr"] = group["peak"] * factor
        for one, group, held in self.due:
            held["step"] += 1
            done = held["step"].item()
            one.lr, one.correction1 = group["lr"], 1 / (1 - self.betas[0] ** done)
            one.correction2 = (1 - self.betas[1] ** done) ** -0.5
        compiled.update(self._array(), self.betas, self.eps, self.scale)
        return loss

    def _take_torchs(self) -> None:
        """torch's optimiser, if it is not there yet, with what was loaded."""
        if isinstance(self.torch, Groups):
            held = self.torch
            self.torch = torch.optim.AdamW(held.param_groups, betas=self.betas, eps=self.eps, fused=True)
            self.torch.state.update(held.state)

    def _tensors(self) -> list[Due]:
        """All that has a gradient as the compiled code takes it, with its group and what is kept about it."""
        made = []
        for group in self.torch.param_groups:
            for p in group["params"]:
                copy = self.copies[p]
                if copy.grad is None:
                    continue
                copy.grad = copy.grad if copy.grad.is_contiguous() else copy.grad.contiguous()
                held = self._state(p)
                arrays = p, copy, copy.grad, held["exp_avg"], held["exp_avg_sq"], self.flags[p]
                one = compiled.StepUpdate(*(a.data_ptr() for a in arrays), p.numel(), decay=group["weight_decay"])
                made.append((one, group, held))
        return made

    def _array(self) -> Array[compiled.StepUpdate]:
        return (compiled.StepUpdate * len(self.due))(*(one for one, _, _ in self.due))

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        """As torch's AdamW keeps it, so that runs go on with either."""
        found = self.torch.state[p]
        if not found:
            found |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        return found
