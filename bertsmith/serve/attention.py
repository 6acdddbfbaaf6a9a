"""How much each token of a text reads of each other, by layer and head: softmax(q k' scale + mask) as the encoder has it.

N heads, T tokens.
"""

from typing import Any

import numpy as np
import torch
from tokenizers import Encoding
from torch import nn

from bertsmith import kernels
from bertsmith.coding import Row
from bertsmith.core.softmax import Softmax
from bertsmith.encoder import Encoder
from bertsmith.linear import grafts_of
from bertsmith.mixer import Mixer
from bertsmith.model import Model
from bertsmith.tap import see
from bertsmith.tokenizer.roles import shown

MOST = 128  # tokens of a text: what is answered grows with their square


@torch.inference_mode()
def attention(model: Model, code: Encoding, layer: int) -> dict[str, Any]:
    """{"tokens": as they stand in a text, "layers": how many there are, "layer", "weights": float32 [N, T, T]}.

    weights[n, t, s]: how much token t reads of token s in head n of the layer; over s they add up to 1. In fp32, by torch.

    Args:
        code: a text of one token at the least.
        layer: from 1.

    Raises ValueError if there is no such layer, or no plain attention in all of them.
    """
    _check_plain(model.encoder)
    found: list[np.ndarray] = []

    def hear(path: str, inputs: tuple[Any, ...], output: Any) -> None:
        q_BNTH, k_BNSH, _, mask, scale, _ = inputs
        B, N, S, _ = k_BNSH.shape
        unit_BNSS = torch.eye(S, dtype=q_BNTH.dtype, device=q_BNTH.device).expand(B, N, S, S)
        # attention over unit vectors gives its weights back
        found.append(kernels.attention(q_BNTH, k_BNSH, unit_BNSS, mask, scale, 0.0)[0].float().cpu().numpy())

    ((_, token_BT, layout),) = model.batches([Row(0, [code])])
    with see(model.encoder, "**.core", hear):
        model.encoder(token_BT, layout)
    T = token_BT.shape[1]
    if odd := [weight_NTS.shape for weight_NTS in found if weight_NTS.shape[1:] != (T, T)]:
        raise ValueError(f"this encoder adds or drops tokens inside: {odd[0][1]} read {odd[0][2]}, of a text of {T}")
    if layer > len(found):
        raise ValueError(f"there is no layer {layer}: they are 1 to {len(found)}")
    tokens = [shown(model.tokenizer, number) for number in token_BT[0].tolist()]
    # more digits would only make the answer longer
    return {"tokens": tokens, "layers": len(found), "layer": layer, "weights": found[layer - 1].round(4)}


def _check_plain(encoder: Encoder) -> None:
    """Raises ValueError, naming the first, unless all mixers have the softmax of all pairs of tokens, unchanged."""
    mixers = [(path, module) for path, module in encoder.named_modules() if isinstance(module, Mixer)]
    if not mixers:
        raise ValueError("this encoder has no attention, so there is none to show")
    for path, mixer in mixers:
        core = mixer._modules.get("core")
        if type(core) is not Softmax or grafts_of(core):
            raise ValueError(f"{path} is {_named(mixer, core)}, which has no plain attention to show")


def _named(mixer: Mixer, core: nn.Module | None) -> str:
    """What a mixer is, as its spec calls it as nearly as may be."""
    parts = [f"mixer/{type(mixer).__module__.rpartition('.')[2]}"]
    if core is not None:
        parts.append(f"core/{type(core).__module__.rpartition('.')[2]}")
        parts += [f"the graft {name}" for name in grafts_of(core)]
    return " with ".join(parts)
