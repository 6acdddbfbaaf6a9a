"""The layers that the compiled code knows: which pieces they have, or the first one that it does not know."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertsmith.block.sequential import Sequential
from bertsmith.core.softmax import Softmax
from bertsmith.ffn.glu import GLU
from bertsmith.ffn.mlp import MLP
from bertsmith.layout import Layout
from bertsmith.linear import Linear, grafts_of
from bertsmith.mixer.attention import Attention
from bertsmith.norm.layer import Layer as LayerNorm
from bertsmith.norm.none import NoNorm
from bertsmith.norm.rms import RMS
from bertsmith.position import Position
from bertsmith.residual.post import Post
from bertsmith.residual.pre import Pre
from bertsmith.residual.pre_after_first import PreAfterFirst

ACTS = {"GELU": 0, "ReLU": 1, "SiLU": 2, "GELUTanh": 3, "NoAct": 4, "Tanh": 5, "SquaredReLU": 6}
NORM_KINDS: dict[type, int] = {NoNorm: 0, LayerNorm: 1, RMS: 2}


class Unsupported(ValueError):
    """The compiled code has no such piece; the message names it."""


@dataclass(frozen=True)
class Pieces:
    """A layer taken apart.

    Attributes:
        linears: by name q, k, v, out, up, down, and gate where the feed-forward is gated.
        norms: by name attention_in, attention_out, ffn_in, ffn_out; those that are there.
    """

    mixer: Attention
    ffn: MLP | GLU
    core: Softmax
    mixer_residual: Post | Pre | PreAfterFirst
    ffn_residual: Post | Pre | PreAfterFirst
    act: int
    linears: dict[str, Linear]
    norms: dict[str, LayerNorm | RMS]


def pieces(block: nn.Module) -> Pieces:
    """Raises Unsupported."""
    if type(block) is not Sequential:
        raise Unsupported(f"block/{type(block).__name__}")
    if any(len(grafts_of(module)) for module in inside(block)):
        path, module = next((path, module) for path, module in block.named_modules() if len(grafts_of(module)))
        raise Unsupported(f"the graft {', '.join(grafts_of(module))} at {path or 'a layer'}")
    mixer, ffn = block.mixer, block.ffn
    if type(mixer) is not Attention or not isinstance(mixer, Attention):
        raise Unsupported(f"mixer/{type(mixer).__name__}")
    if type(mixer.core) is not Softmax or not isinstance(mixer.core, Softmax):
        raise Unsupported(f"core/{type(mixer.core).__name__}")
    if type(ffn) not in (MLP, GLU) or not isinstance(ffn, MLP | GLU):
        raise Unsupported(f"ffn/{type(ffn).__name__}")
    if (act := type(ffn.act).__name__) not in ACTS:
        raise Unsupported(f"act/{act}")
    linears = {"q": mixer.q, "k": mixer.k, "v": mixer.v, "out": mixer.out, "up": ffn.up, "down": ffn.down}
    if isinstance(ffn, GLU):
        linears["gate"] = ffn.gate
    for linear in linears.values():
        if type(linear) is not Linear:
            raise Unsupported(f"the layer {type(linear).__name__}")
    norms: dict[str, LayerNorm | RMS] = {}
    for name, residual in (("attention", block.mixer_residual), ("ffn", block.ffn_residual)):
        if type(residual) not in (Post, Pre, PreAfterFirst) or not isinstance(residual, Post | Pre | PreAfterFirst):
            raise Unsupported(f"residual/{type(residual).__name__}")
        if type(residual.norm) not in NORM_KINDS:
            raise Unsupported(f"norm/{type(residual.norm).__name__}")
        if isinstance(residual.norm, LayerNorm | RMS):
            norms[f"{name}_{'out' if type(residual) is Post else 'in'}"] = residual.norm
    return Pieces(mixer, ffn, mixer.core, block.mixer_residual, block.ffn_residual, ACTS[act], linears, norms)  # type: ignore[arg-type]


def inside(module: nn.Module) -> list[nn.Module]:
    """The module and what is in it; asked of every layer in every step, and `modules()` takes many times as long."""
    found = [module]
    for one in found:  # grows meanwhile
        found.extend(part for part in one._modules.values() if part is not None)
    return found


def listens(module: nn.Module) -> bool:
    """Whether somebody is called when the module runs."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def by_distance(position: Position, heads: int, span: int) -> Tensor:
    """What a position that knows distances alone adds to scores, [1, N, 1, 2 span + 1]: at key - query + span."""
    one, far = torch.tensor([[span]]), torch.arange(2 * span + 1)[None]
    device = next((p.device for p in position.parameters()), torch.device("cpu"))
    reader, read = (Layout.of(torch.ones_like(p), p).to(device) for p in (one, far))
    nothing = torch.zeros(1, heads, 1, 1, device=device)
    term = position.score(nothing, nothing, reader, read, (lambda x: x, lambda x: x))
    assert term is not None
    return term
