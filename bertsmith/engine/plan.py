"""What the compiled encoder needs to know of one of ours, read off its pieces: arrays, or the reason why it cannot run it.

D width, N heads, P width of a head, padded to two vectors of the processor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith import native
from bertsmith.embedding.tokens import Tokens
from bertsmith.encoder import Encoder
from bertsmith.encoder.stack import Stack
from bertsmith.fused.pieces import NORM_KINDS, Unsupported, by_distance, pieces
from bertsmith.layout import Layout
from bertsmith.linear import Embedding, Linear
from bertsmith.native.step import NORMS
from bertsmith.norm.layer import Layer as LayerNorm
from bertsmith.norm.rms import RMS
from bertsmith.position import Position
from bertsmith.position.alibi import ALiBi
from bertsmith.position.learned import Learned
from bertsmith.position.none import NoPosition
from bertsmith.position.rope import Rope
from bertsmith.position.sinusoidal import Sinusoidal
from bertsmith.position.t5_buckets import T5Buckets

NAMES = ("qkv", "out", "up", "down")


@dataclass
class Matrix:
    """weight [out, in], bias [out] or None; `gated`: the gates' rows, then those that they gate."""

    weight: np.ndarray
    bias: np.ndarray | None = None
    gated: bool = False


@dataclass
class Norm:
    kind: int = 0
    eps: float = 0.0
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass
class Layer:
    """One layer, for any processor: heads are not padded yet. Rows of q, k and v apart, since padding falls on each head."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    q: Matrix
    k: Matrix
    v: Matrix
    out: Matrix
    up: Matrix
    down: Matrix
    act: int
    base: float  # of rotary positions; 0: none
    bias: np.ndarray | None  # [N, 2 span + 1] at key - query + span
    norms: dict[str, Norm]


@dataclass
class Plan:
    dim: int
    longest: int
    word: np.ndarray
    place: np.ndarray | None
    kind: np.ndarray | None  # of token types
    norm: Norm
    project: Matrix | None
    layers: list[Layer] = field(default_factory=list)
    last: Norm = field(default_factory=Norm)


@torch.no_grad()
def plan(encoder: Encoder, longest: int) -> Plan:
    """Everything about an encoder, its edits baked in, for texts of up to `longest` tokens, or as many as it has places.

    Raises Unsupported, naming the first piece that the kernel does not have.
    """
    if type(encoder) is not Stack:
        raise Unsupported(f"encoder/{type(encoder).__name__}")
    for path, module in encoder.named_modules():
        if isinstance(grafts := getattr(module, "grafts", None), nn.ModuleDict) and len(grafts):
            raise Unsupported(f"the graft at {path or 'the root'}")
    table = encoder.embedding
    if type(table) is not Tokens or len(table.facts):
        raise Unsupported(f"embedding/{type(table).__name__}" + " with further facts" * isinstance(table, Tokens))
    if isinstance(table.position, Learned):
        longest = min(longest, table.position.table.weight.shape[0] - table.position.offset)
    kinds = None if table.types is None else _array(table.types.edited()[0])
    made = Plan(
        encoder.dim,
        longest,
        _array(table.table.edited()[0]),
        _places(table.position, table.table, longest),
        kinds[:1] if kinds is not None and table.one_type else kinds,
        _norm(table.norm),
        None if table.project is None else _matrix(table.project),
        last=_norm(encoder.norm),
    )
    made.layers = [_layer(block, longest) for block in encoder.layers]
    return made


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().float().cpu().numpy())


def _matrix(linear: nn.Module) -> Matrix:
    if type(linear) is not Linear:
        raise Unsupported(f"the layer {type(linear).__name__}")
    weight, bias = linear.edited()
    return Matrix(_array(weight), None if bias is None else _array(bias))


def _norm(norm: nn.Module) -> Norm:
    if type(norm) not in NORM_KINDS:
        raise Unsupported(f"norm/{type(norm).__name__}")
    if not isinstance(norm, LayerNorm | RMS):
        return Norm()
    bias = norm.bias if isinstance(norm, LayerNorm) else None
    return Norm(NORM_KINDS[type(norm)], norm.eps, _array(norm.weight), None if bias is None else _array(bias))


def _places(position: Position, table: Embedding, longest: int) -> np.ndarray | None:
    """What the embedding adds at each place."""
    if type(position) in (NoPosition, Rope):
        return None
    if type(position) not in (Learned, Sinusoidal):
        raise Unsupported(f"position/{type(position).__name__} in the embedding")
    layout = Layout.padded(torch.ones(1, longest))
    nothing = torch.zeros(1, longest, table.weight.shape[1], device=table.weight.device)
    return _array(position.add(nothing, layout.to(table.weight.device))[0])


def _layer(block: nn.Module, longest: int) -> Layer:
    found = pieces(block)
    mixer, weights = found.mixer, {name: _matrix(linear) for name, linear in found.linears.items()}
    heads = mixer.q.weight.shape[0] // mixer.head_dim
    up = weights["up"]
    if "gate" in weights:
        gate = weights["gate"]
        bias = None if up.bias is None or gate.bias is None else np.concatenate([gate.bias, up.bias])
        up = Matrix(np.concatenate([gate.weight, up.weight]), bias, gated=True)
    base, bias = _relative(mixer.position, heads, longest)
    q = weights["q"]
    by = np.float32(mixer.scale * math.log2(math.e))  # the kernel's softmax is in powers of two
    return Layer(
        heads,
        heads // mixer.group,
        mixer.head_dim,
        mixer.window // 2,
        Matrix(q.weight * by, None if q.bias is None else q.bias * by),
        weights["k"],
        weights["v"],
        weights["out"],
        up,
        weights["down"],
        found.act,
        base,
        bias,
        {name: _norm(found.norms[name]) if name in found.norms else Norm() for name in NORMS},
    )


def _relative(position: Position, heads: int, longest: int) -> tuple[float, np.ndarray | None]:
    """(base of rotations or 0, what is added to the scores by distance or None)."""
    if type(position) in (NoPosition, Learned):
        return 0.0, None
    if isinstance(position, Rope) and type(position) is Rope:
        return position.base, None
    if type(position) not in (T5Buckets, ALiBi):
        raise Unsupported(f"position/{type(position).__name__}")
    return 0.0, _array(by_distance(position, heads, longest)[0, :, 0] * math.log2(math.e))


Kinds = Callable[[int, str], int]
Codes = dict[tuple[int, str], tuple[np.ndarray, np.ndarray, np.ndarray | None]]


def build(plan: Plan, isa: native.Isa, kinds: Kinds, codes: Codes | None = None) -> native.Handle:
    """The encoder in the library.

    Args:
        kinds: (number of a layer, name of one of its four products) -> native.INT8, BF16 or FP32.
        codes: for those in int8 (codes int8 [out, in], scale [out], smooth [in] or None), as `padded` lays them out; rounded
            to the nearest where it is not given.
    """
    keep: list[np.ndarray] = []  # what pointers point to

    def at(array: np.ndarray | None) -> int | None:
        if array is not None:
            keep.append(array)
        return native.address(array)

    def norm(n: Norm) -> native.NormWeights:
        return native.NormWeights(n.kind, n.eps, at(n.weight), at(n.bias))

    def linear(m: Matrix, kind: int, given: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None):
        weight, scale, smooth = (np.ascontiguousarray(m.weight), None, None)
        if kind == native.INT8:
            weight, scale, smooth = given or rounded(m.weight)
        sizes = kind, *m.weight.shape, int(m.gated)
        return native.LinearWeights(*sizes, at(weight), at(scale), at(m.bias), at(smooth))

    none = native.LinearWeights()
    handle = native.Handle(
        isa,
        plan.dim,
        native.EmbeddingWeights(
            plan.word.shape[1],
            plan.word.shape[0],
            plan.longest,
            0 if plan.kind is None else len(plan.kind),
            at(plan.word),
            at(plan.place),
            at(plan.kind),
            norm(plan.norm),
            none if plan.project is None else linear(plan.project, best(isa) if kinds(0, "qkv") != native.FP32 else 2),
        ),
        [x for x in (plan.word, plan.place, plan.kind) if x is not None],
    )
    turns: dict[tuple[float, int], tuple[np.ndarray, np.ndarray]] = {}  # one table for all layers that turn alike
    for i, layer in enumerate(plan.layers):
        made = padded(layer, isa.lanes)
        cosine = sine = None
        if layer.base:
            key = layer.base, layer.head_dim
            cosine, sine = turns[key] = turns.get(key) or _turns(layer, plan.longest, isa.lanes)
            handle.keep += [cosine, sine]
        products = [linear(made[name], kinds(i, name), (codes or {}).get((i, name))) for name in NAMES]
        handle.add(
            native.LayerWeights(
                layer.heads, layer.kv_heads, layer.head_dim, layer.window, 0 if cosine is None else len(cosine),
                plan.longest, layer.act, at(cosine), at(sine), at(layer.bias), *products,
                *(norm(layer.norms[name]) for name in NORMS),
            )
        )  # fmt: skip
    handle.finish(norm(plan.last))
    return handle


def best(isa: native.Isa) -> int:
    """The quickest kind of product that is not of 8 bits."""
    return native.BF16 if isa.bf16 else native.FP32


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
    """(int8 codes, scale of every output, no smoothing): to the nearest."""
    scale = np.maximum(np.abs(weight).max(1), 1e-20).astype(np.float32) / 127
    return np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8), scale, None


def padded(layer: Layer, lanes: int) -> dict[str, Matrix]:
    """The four products of a layer as the kernel wants them: heads P wide, q, k and v as one, pairs that turn side by side."""
    wide = -(-layer.head_dim // (2 * lanes)) * 2 * lanes
    order = np.arange(layer.head_dim)
    turned = order.reshape(2, -1).T.reshape(-1) if layer.base else order

    def rows(m: Matrix, heads: int, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = np.zeros((heads, wide, m.weight.shape[1]), np.float32)
        bias = np.zeros((heads, wide), np.float32)
        weight[:, : len(order)] = m.weight.reshape(heads, layer.head_dim, -1)[:, order]
        if m.bias is not None:
            bias[:, : len(order)] = m.bias.reshape(heads, -1)[:, order]
        return weight.reshape(heads * wide, -1), bias.reshape(-1)

    parts = [(layer.q, layer.heads, turned), (layer.k, layer.kv_heads, turned), (layer.v, layer.kv_heads, order)]
    made = [rows(*part) for part in parts]
    out = np.zeros((len(layer.out.weight), layer.heads, wide), np.float32)
    out[:, :, : layer.head_dim] = layer.out.weight.reshape(len(out), layer.heads, layer.head_dim)
    return {
        "qkv": Matrix(np.concatenate([w for w, _ in made]), np.concatenate([b for _, b in made])),
        "out": Matrix(out.reshape(len(out), -1), layer.out.bias),
        "up": layer.up,
        "down": layer.down,
    }


def _turns(layer: Layer, longest: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """(cos, signed sin) [places, P] for pairs that stand side by side."""
    wide = -(-layer.head_dim // (2 * lanes)) * 2 * lanes
    even = np.arange(0, layer.head_dim, 2, dtype=np.float32)
    angle = np.arange(longest, dtype=np.float32)[:, None] * np.float32(layer.base) ** (-even / layer.head_dim)
    cosine, sine = np.ones((longest, wide), np.float32), np.zeros((longest, wide), np.float32)
    cosine[:, 0 : layer.head_dim : 2] = cosine[:, 1 : layer.head_dim : 2] = np.cos(angle)
    sine[:, 0 : layer.head_dim : 2], sine[:, 1 : layer.head_dim : 2] = -np.sin(angle), np.sin(angle)
    return cosine, sine
