"""Encoders that the compiled kernel does not know, run by torch: in bf16 where the processor multiplies it in hardware and what
comes out keeps the promise, else in fp32.

In bf16 the products are of bf16 numbers; norms, softmax and the sums of residuals stay in fp32 (torch's autocast).
"""

import copy

import numpy as np
import torch
from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.linear import Linear


def shortened(encoder: Encoder) -> Encoder:
    """A copy whose products have bf16 weights, so that none is cast at every call."""
    short = copy.deepcopy(encoder)
    for module in short.modules():
        if isinstance(module, Linear):
            for held in (module.weight, module.bias):
                if held is not None:
                    held.data = held.data.bfloat16()
    return short


def states(encoder: Encoder, token_BT: Tensor, layout: Layout) -> Tensor:
    """x_BTD, float32, with products in bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        return encoder(token_BT, layout).float()


def means(encoder: Encoder, texts: list[list[int]], short: bool) -> np.ndarray:
    """The mean state of every text, float32 [texts, D]."""
    keep_BT = torch.zeros(len(texts), max(map(len, texts)))
    token_BT = keep_BT.long()
    for row, ids in enumerate(texts):
        keep_BT[row, : len(ids)], token_BT[row, : len(ids)] = 1, torch.tensor(ids)
    layout = Layout.padded(keep_BT)
    with torch.inference_mode():
        x_BTD = states(encoder, token_BT, layout) if short else encoder(token_BT, layout)
    return ((x_BTD * keep_BT[..., None]).sum(1) / keep_BT.sum(1, keepdim=True)).numpy()
