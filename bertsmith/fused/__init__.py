"""A layer in training as one function, run by the compiled code where it knows every piece of it, else by torch.

The code is for bf16 on a CPU: products of bf16 numbers, summed in fp32 (see native/step.cpp). A layer whose weights are edited
is still one function, of the edited weights. One that holds a graft or a piece that is not known, or that somebody listens
to inside, goes through torch, in the same model and the same pass.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as all_modules

from bertsmith import kernels
from bertsmith.fused.again import Kept as Kept
from bertsmith.fused.again import Source, again
from bertsmith.fused.again import measured as measured
from bertsmith.fused.embedding import embedded as embedded
from bertsmith.fused.embedding import why_not as why_not_embedded
from bertsmith.fused.pieces import NORM_KINDS, Pieces, Unsupported, by_distance, inside, listens, pieces
from bertsmith.layout import Layout
from bertsmith.linear import grafts_of
from bertsmith.native import step
from bertsmith.norm import Norm
from bertsmith.position.alibi import ALiBi
from bertsmith.position.learned import Learned
from bertsmith.position.none import NoPosition
from bertsmith.position.rope import Rope
from bertsmith.position.t5_buckets import T5Buckets

ACTS = range(4)  # those whose slope the code has


@dataclass(frozen=True)
class Texts:
    """Where texts are in a batch.

    Attributes:
        where: int64 [tokens], the places of real tokens in B * T, text after text.
        starts: int32 [texts + 1], of every text among the tokens. longest: tokens of the longest text.
        asked: int32, in order, the tokens whose states after the layer are wanted; None: all.
    """

    where: Tensor
    starts: Tensor
    longest: int
    asked: Tensor | None = None


def through(layer: nn.Module, x_BTD: Tensor, layout: Layout, *source: Source, place_N: Tensor | None = None) -> Tensor:
    """layer(x_BTD, layout, *source). With `place_N`, int64 places in B * T, states elsewhere mean nothing."""
    if torch.compiler.is_compiling():  # a compiler traces no context variables
        return layer(x_BTD, layout, *source)
    return again(partial(_through, layer, place_N), x_BTD, layout, *source)


def _through(layer: nn.Module, place_N: Tensor | None, x_BTD: Tensor, layout: Layout, *source: Source) -> Tensor:
    if source or not kernels.one_function(x_BTD) or step.why_not():
        return layer(x_BTD, layout, *source)
    try:
        found, texts = _known(layer), _texts(layout)
    except Unsupported:
        return layer(x_BTD, layout)
    return _run(found, x_BTD, layout, texts if place_N is None else _asked(texts, place_N, layout))


def each_alone(*modules: nn.Module) -> bool:
    """Whether states that go through norms and the like may lack some places: nothing mixes tokens, or listens."""
    return all(type(m) in NORM_KINDS or not isinstance(m, Norm) for m in modules) and not any(
        grafts_of(m) or listens(m) for m in modules
    )


def why_not(layer: nn.Module) -> str:
    """Why a layer is trained by torch, where the weights are bf16; "" if it is not."""
    if step.why_not():
        return step.why_not()
    try:
        _known(layer)
    except Unsupported as error:
        return f"the compiled step does not have {error}"
    return ""


def about(layers: Iterable[nn.Module], embedding: nn.Module) -> dict[str, str]:
    """How what is in bf16 is trained: {"layers": "12 by the compiled step", or how many are not, and why; "embedding"}."""
    whys = Counter(why_not(layer) for layer in layers)
    said = [f"{n} by {_by(why)}" for why, n in sorted(whys.items())]
    return {"layers": ", ".join(said), "embedding": f"by {_by(why_not_embedded(embedding))}"}


def _by(why: str) -> str:
    return f"torch ({why})" if why else "the compiled step"


def _known(layer: nn.Module) -> Pieces:
    """Raises Unsupported, naming what is not."""
    found = pieces(layer)
    if all_modules._global_forward_hooks or any(listens(m) for m in inside(layer)):
        raise Unsupported("hooks: something listens inside the layer")
    if found.act not in ACTS:
        raise Unsupported(f"the slope of act/{type(found.ffn.act).__name__}")
    if type(found.mixer.position) not in (NoPosition, Learned, Rope, T5Buckets, ALiBi):
        raise Unsupported(f"position/{type(found.mixer.position).__name__}")
    widths = {"width": found.mixer.out.weight.shape[0], "width of a head": found.mixer.head_dim}
    for name, wide in (widths | {"feed-forward width": found.ffn.down.weight.shape[1]}).items():
        if wide % 32:
            raise Unsupported(f"a {name} that is not a multiple of 32: {wide}")
    return found


def _texts(layout: Layout) -> Texts:
    """Made once a pass."""
    if layout.see_BTT is not None:
        raise Unsupported("a layout that says who sees whom")

    def make() -> Texts | None:
        where = layout.real_BT.flatten().nonzero()[:, 0]
        document, position = layout.document_BT.flatten()[where], layout.position_BT.flatten()[where]
        begins = torch.ones(len(where), dtype=torch.bool)
        begins[1:] = document[1:] != document[:-1]
        starts = torch.cat([begins.nonzero()[:, 0], torch.tensor([len(where)])])
        lengths = starts.diff()
        in_order = torch.arange(len(where)) - starts[:-1].repeat_interleave(lengths)
        if not len(where) or not torch.equal(position, in_order):
            return None
        return Texts(where, starts.int(), int(lengths.max()))

    texts = layout.once(("texts", "in order"), make)
    if texts is None:
        raise Unsupported("texts whose tokens do not stand in order")
    return texts


def _asked(texts: Texts, place_N: Tensor, layout: Layout) -> Texts:
    """With those tokens asked that stand at these places."""
    wanted = torch.zeros(layout.segment_BT.numel(), dtype=torch.bool)
    wanted[place_N] = True
    asked = wanted[texts.where].nonzero()[:, 0].int()
    return replace(texts, asked=asked) if 0 < len(asked) < len(texts.where) else texts


def _run(found: Pieces, x_BTD: Tensor, layout: Layout, texts: Texts) -> Tensor:
    layer, mixer = step.StepLayer(), found.mixer
    layer.dim, layer.head_dim, layer.hidden = x_BTD.shape[-1], mixer.head_dim, found.ffn.down.weight.shape[1]
    layer.heads = mixer.q.weight.shape[0] // mixer.head_dim
    layer.kv_heads, layer.window = layer.heads // mixer.group, mixer.window // 2
    layer.gated, layer.act, layer.scale = "gate" in found.linears, found.act, mixer.scale
    layer.drop_attention = found.core.dropout if found.core.training else 0.0
    layer.drop_mixer, layer.drop_inner, layer.drop_ffn = (
        piece.drop.p if piece.drop.training else 0.0 for piece in (found.mixer_residual, found.ffn, found.ffn_residual)
    )
    for i, name in enumerate(step.NORMS):
        if norm := found.norms.get(name):
            layer.norm_kind[i], layer.norm_eps[i] = NORM_KINDS[type(norm)], norm.eps
    tables: tuple[Tensor, ...] = ()
    near_NS = None
    if isinstance(mixer.position, T5Buckets | ALiBi):
        layer.span = texts.longest
        near_NS = layout.once(("near", id(mixer.position)), lambda: _near(mixer.position, layer.heads, layer.span))
    if isinstance(mixer.position, Rope):
        tables = layout.once(
            ("turns", mixer.position.base, mixer.head_dim), lambda: _turns(mixer.position, texts.longest)
        )
    edited = [found.linears[n].edited() if n in found.linears else (None, None) for n in step.WEIGHTS]
    norms = [found.norms.get(name) for name in step.NORMS]
    arrays = [w for w, _ in edited] + [b for _, b in edited] + [n and n.weight for n in norms]
    arrays += [getattr(n, "bias", None) for n in norms]  # RMS has none
    drops = layer.drop_attention, layer.drop_mixer, layer.drop_inner, layer.drop_ffn
    key = kernels.key() if any(drops) else 0
    return _Layer.apply(x_BTD, layer, texts, tables, key, near_NS, *arrays)  # type: ignore[no-any-return]


def _turns(rope: Rope, longest: int) -> tuple[Tensor, Tensor]:
    """(cos, sin) float32 [longest, H / 2]."""
    even = torch.arange(0, rope.head_dim, 2, dtype=torch.float32)
    angle = torch.arange(longest)[:, None] * rope.base ** (-even / rope.head_dim)
    return angle.cos(), angle.sin()


def _near(position: T5Buckets | ALiBi, heads: int, span: int) -> Tensor:
    """What is added to the scores of every head, by key - query + span: float32 [N, 2 span + 1, and some zeros]."""
    at = by_distance(position, heads, span)[0, :, 0]
    return F.pad(at.float(), (0, step.BEYOND))


class _Layer(torch.autograd.Function):
    """(x, what the layer is, its texts, rotary tables, key of its dropout, what scores get, weights, biases, norms) -> y."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x_BTD: Tensor,
        layer: step.StepLayer,
        texts: Texts,
        tables: tuple[Tensor, ...],
        key: int,
        near_NS: Tensor | None,
        *arrays: Tensor | None,
    ) -> Tensor:
        x_BTD = x_BTD.contiguous()
        held = [None if a is None else a.contiguous() for a in arrays]
        whole = texts.asked is None and len(texts.where) == x_BTD[..., 0].numel()
        y_BTD = (torch.empty_like if whole else torch.zeros_like)(x_BTD)
        ctx.layer, ctx.key, ctx.texts, ctx.tables = layer, key, texts, tables
        _point(layer, tables, near_NS, held)
        saved = step.forward(layer, _texts_of(texts, key), x_BTD, y_BTD)
        ctx.save_for_backward(saved, near_NS, *held)
        return y_BTD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy_BTD: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        saved, near_NS, *held = ctx.saved_tensors
        dy_BTD = dy_BTD.contiguous()
        whole = len(ctx.texts.where) == dy_BTD[..., 0].numel()
        dx_BTD = (torch.empty_like if whole else torch.zeros_like)(dy_BTD) if ctx.needs_input_grad[0] else None
        wanted = [torch.empty_like(a) if n else None for a, n in zip(held, ctx.needs_input_grad[6:], strict=True)]
        dnear_NS = torch.empty_like(near_NS) if ctx.needs_input_grad[5] else None
        gradients = step.StepGradients()
        _place(gradients, wanted)
        gradients.near = None if dnear_NS is None else dnear_NS.data_ptr()
        _point(ctx.layer, ctx.tables, near_NS, held)
        step.backward(ctx.layer, _texts_of(ctx.texts, ctx.key), saved, dy_BTD, dx_BTD, gradients)
        return dx_BTD, None, None, None, None, dnear_NS, *wanted


def _texts_of(texts: Texts, key: int) -> step.StepTexts:
    where, starts, asked = texts.where, texts.starts, texts.asked
    given, places = (len(where), None) if asked is None else (len(asked), asked.data_ptr())
    return step.StepTexts(len(where), len(starts) - 1, given, starts.data_ptr(), where.data_ptr(), places, key)


def _point(
    layer: step.StepLayer, tables: tuple[Tensor, ...], near_NS: Tensor | None, arrays: list[Tensor | None]
) -> None:
    _place(layer, arrays)
    layer.near = None if near_NS is None else near_NS.data_ptr()
    if tables:
        layer.cosine, layer.sine = tables[0].data_ptr(), tables[1].data_ptr()


def _place(to: step.StepLayer | step.StepGradients, arrays: list[Tensor | None]) -> None:
    """Where arrays are: weights, biases, norms' weights, norms' biases."""
    pointers = iter(None if a is None else a.data_ptr() for a in arrays)
    for field, names in (
        ("weight", step.WEIGHTS),
        ("bias", step.WEIGHTS),
        ("norm_weight", step.NORMS),
        ("norm_bias", step.NORMS),
    ):
        for i in range(len(names)):
            getattr(to, field)[i] = next(pointers)
