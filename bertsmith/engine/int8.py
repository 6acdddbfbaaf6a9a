"""Eight-bit weights that lose little: scales moved from inputs into weights, then rounding that makes up for its own errors.

SmoothQuant, Xiao et al. 2022, arXiv:2211.10438, eq. 4: an input channel j is divided, and its column of W multiplied, by
max|x_j|^a / max|W_j|^(1 - a). GPTQ, Frantar et al. 2022, arXiv:2210.17323, algorithm 1: columns are rounded one after the
other, those with the largest inputs first, and what is lost in one is put right in those that follow, by the inverse of
H = X'X.

D inputs, K outputs of a product, T tokens.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith.encoder import Encoder
from bertsmith.engine.plan import NAMES, Codes, Plan, padded
from bertsmith.layout import Layout

# How much of an input's range is moved into the weights; None: nothing is. Chosen on MiniLM: what enters the attention is
# the widest, and moving what the second layer of the feed-forward reads made things worse.
SMOOTH = {"qkv": 0.7, "out": None, "up": 0.5, "down": None}
READERS = {"qkv": "mixer.q", "out": "mixer.out", "up": "ffn.up", "down": "ffn.down"}
DAMP, BLOCK = (
    0.01,
    64,
)  # added to the diagonal of H, as a share of its mean; columns that are rounded before the rest is told


class Seen:
    """Of the inputs of one product: H_DD = X'X and the largest of each channel."""

    def __init__(self, dim: int):
        self.second_DD, self.largest_D = torch.zeros(dim, dim), torch.zeros(dim)

    def add(self, x_TD: Tensor) -> None:
        self.second_DD += x_TD.T @ x_TD
        self.largest_D = torch.maximum(self.largest_D, x_TD.abs().amax(0))


@torch.no_grad()
def listen(encoder: Encoder, batches: Iterable[tuple[Tensor, Layout]]) -> dict[tuple[int, str], Seen]:
    """What every product reads while the encoder runs on some texts. Layers that share weights are heard together."""
    seen: dict[int, Seen] = {}
    hooks = []
    now: list[Layout] = []

    def hear(module: nn.Module, given: tuple[Tensor, ...], key: int) -> None:
        seen[key].add(given[0][now[0].real_BT].float())

    found: dict[tuple[int, str], int] = {}
    for i, layer in enumerate(encoder.layers):
        for name, path in READERS.items():
            reader = layer.get_submodule(path)
            key = found[i, name] = id(reader)
            if key not in seen:
                seen[key] = Seen(reader.weight.shape[1])  # type: ignore[union-attr]
                hooks.append(reader.register_forward_pre_hook(partial(hear, key=key)))
    try:
        for token_BT, layout in batches:
            now[:] = [layout]
            encoder(token_BT, layout)
    finally:
        for hook in hooks:
            hook.remove()
    return {place: seen[key] for place, key in found.items()}


def calibrate(plan: Plan, lanes: int, seen: dict[tuple[int, str], Seen]) -> Codes:
    """(codes, scale of every output, what inputs are multiplied with or None) of every product of a plan."""
    made: Codes = {}
    for i, layer in enumerate(plan.layers):
        matrices = padded(layer, lanes)
        for name in NAMES:
            weight_KD = torch.from_numpy(matrices[name].weight)
            heard = _spread(seen[i, name], layer.head_dim, weight_KD.shape[1], layer.heads if name == "out" else 1)
            made[i, name] = quantise(weight_KD, heard, SMOOTH[name])
    return made


def _spread(seen: Seen, head_dim: int, wide: int, heads: int) -> Seen:
    """The same where every head has places that hold nothing."""
    if len(seen.largest_D) == wide:
        return seen
    place_D = torch.arange(wide).view(heads, -1)[:, :head_dim].flatten()
    more = Seen(wide)
    more.second_DD[place_D[:, None], place_D[None]] = seen.second_DD
    more.largest_D[place_D] = seen.largest_D
    return more


def quantise(weight_KD: Tensor, seen: Seen, share: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(int8 codes [K, D], scale float32 [K], smooth float32 [D] or None) of one weight.

    share: of the inputs' range that goes into the weights (SmoothQuant's a), or None.
    """
    by_D = torch.ones(weight_KD.shape[1])
    if share is not None:
        most_D = weight_KD.abs().amax(0).clamp_min(1e-5)
        by_D = seen.largest_D.clamp_min(1e-3) ** share / most_D ** (1 - share)
    w_KD, h_DD = weight_KD * by_D, seen.second_DD / by_D[:, None] / by_D[None]
    scale_K = w_KD.abs().amax(1).clamp_min(1e-20) / 127
    order_D = torch.argsort(h_DD.diagonal(), descending=True)
    inverse_DD = _inverse_root(h_DD[order_D][:, order_D])
    left_KD, codes_KD = w_KD[:, order_D].clone(), torch.zeros_like(w_KD)
    for start in range(0, left_KD.shape[1], BLOCK):
        end = min(start + BLOCK, left_KD.shape[1])
        block, lost = left_KD[:, start:end].clone(), torch.zeros(len(left_KD), end - start)
        for j in range(end - start):
            code_K = (block[:, j] / scale_K).round().clamp(-127, 127)
            codes_KD[:, start + j] = code_K
            lost[:, j] = (block[:, j] - code_K * scale_K) / inverse_DD[start + j, start + j]
            block[:, j:] -= lost[:, j, None] * inverse_DD[start + j, start + j : end]
        left_KD[:, end:] -= lost @ inverse_DD[start:end, end:]
    codes_KD = codes_KD[:, torch.argsort(order_D)]
    smooth = None if share is None else (1 / by_D).numpy()
    return codes_KD.to(torch.int8).numpy(), scale_K.numpy(), smooth


def _inverse_root(h_DD: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse of H, damped until it has one."""
    damp = DAMP * float(h_DD.diagonal().mean()) + 1e-12
    while True:
        lower, failed = torch.linalg.cholesky_ex(h_DD + damp * torch.eye(len(h_DD)))
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return upper
        damp *= 10
