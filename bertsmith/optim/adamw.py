"""AdamW: Adam with decoupled weight decay.  Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2.

Biases and norm weights are not decayed (BERT's code). torch's fused form: one pass over memory a step.
"""

import torch
from torch import Tensor

from bertsmith.optim import Optim, decayed


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
        groups = [g | {"peak": lr} for g in decayed(params, weight_decay) if g["params"]]
        self.torch = torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
