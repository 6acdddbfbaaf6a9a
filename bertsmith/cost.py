"""What a step costs in arithmetic, from the model's own layers.

Kaplan et al. 2020, arXiv:2001.08361, section 2.1: 2 FLOPs a weight and token forward, 4 backward; plus attention's.
"""

from typing import Any

from torch import nn

from bertsmith.encoder import Encoder
from bertsmith.linear import Linear
from bertsmith.mixer import Mixer


def step_flops(encoder: Encoder, objective: nn.Module, batch: dict[str, Any]) -> float:
    """FLOPs of one forward and backward pass, on all slots of the batch, padding too (it is computed)."""
    B, T = batch["token"].shape
    asked = batch["asked"].numel() if "asked" in batch else batch["layout"].count
    body = sum(m.weight.numel() for m in encoder.modules() if isinstance(m, Linear))
    mixers = sum(isinstance(m, Mixer) for m in encoder.modules())
    heads = sum(m.weight.numel() for m in objective.modules() if isinstance(m, Linear))
    table = encoder.embedding.table.weight.numel() if "asked" in batch else 0
    return 6.0 * B * T * body + 12.0 * mixers * encoder.dim * B * T * T + 6.0 * asked * (heads + table)
