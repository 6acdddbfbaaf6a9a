"""The embedding in training as one function: rows of tables, summed, normalised and dropped out (see native/embed.cpp)."""

from typing import Any

import torch
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.embedding.tokens import Tokens
from bertsmith.fused.pieces import NORM_KINDS, Unsupported, inside, listens
from bertsmith.layout import Layout
from bertsmith.linear import grafts_of
from bertsmith.native import step
from bertsmith.position import Position
from bertsmith.position.learned import Learned


def embedded(embedding: nn.Module, token_BT: Tensor, layout: Layout) -> Tensor:
    """embedding(token_BT, layout)."""
    if torch.compiler.is_compiling() or step.why_not():
        return embedding(token_BT, layout)
    try:
        found = _known(embedding)
    except Unsupported:
        return embedding(token_BT, layout)
    words = found.table.edited()[0]
    if not kernels.one_function(words) or not token_BT.numel():
        return embedding(token_BT, layout)
    tables: list[Tensor | None] = [words, None, None]
    index: list[Tensor | None] = [token_BT, None, None]
    if found.types is not None:
        given = None if found.one_type else layout.type_BT
        tables[1], index[1] = found.types.edited()[0], torch.zeros_like(token_BT) if given is None else given
    if isinstance(found.position, Learned):
        tables[2], index[2] = found.position.table.edited()[0], layout.position_BT + found.position.offset
    about = step.StepEmbed(tokens=token_BT.numel(), dim=found.table.weight.shape[1])
    about.norm_kind, about.norm_eps = NORM_KINDS[type(found.norm)], getattr(found.norm, "eps", 0.0)
    about.drop = found.drop.p if found.drop.training else 0.0
    about.key = kernels.key() if about.drop else 0
    norm = getattr(found.norm, "weight", None), getattr(found.norm, "bias", None)
    x_MD = _Embedding.apply(about, index, *tables, *norm)
    x_BTD = x_MD.view(*token_BT.shape, -1)
    return x_BTD if found.project is None else found.project(x_BTD)


def why_not(embedding: nn.Module) -> str:
    """Why the embedding is trained by torch, where the weights are bf16; "" if it is not."""
    if step.why_not():
        return step.why_not()
    try:
        _known(embedding)
    except Unsupported as error:
        return f"the compiled step does not have {error}"
    return ""


def _known(embedding: nn.Module) -> Tokens:
    """Raises Unsupported, naming what is not."""
    if type(embedding) is not Tokens or not isinstance(embedding, Tokens):
        raise Unsupported(f"embedding/{type(embedding).__name__}")
    if len(embedding.facts):
        raise Unsupported("further facts in the embedding")
    position, norm = embedding.position, embedding.norm
    if type(position) is not Learned and type(position).add is not Position.add:
        raise Unsupported(f"position/{type(position).__name__} in the embedding")
    if type(norm) not in NORM_KINDS:
        raise Unsupported(f"norm/{type(norm).__name__}")
    if any(len(grafts_of(m)) or listens(m) for m in inside(embedding)):
        raise Unsupported("a graft, or somebody who listens, inside the embedding")
    if embedding.table.weight.shape[1] % 32:
        raise Unsupported(f"a width of the embedding that is not a multiple of 32: {embedding.table.weight.shape[1]}")
    return embedding


class _Embedding(torch.autograd.Function):
    """(what it is, rows of each table, the tables, the norm's weight and bias) -> y_MD."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, about: step.StepEmbed, index: list[Tensor | None], *arrays: Tensor | None
    ) -> Tensor:
        held = [None if a is None else a.contiguous() for a in arrays]
        ctx.about, ctx.index = about, [None if i is None else i.contiguous() for i in index]
        _point(about, ctx.index, held)
        y_MD, standard, inverse = step.embed_forward(about)
        ctx.save_for_backward(standard, inverse, *held)
        return y_MD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy_MD: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        standard, inverse, *held = ctx.saved_tensors
        wanted = [torch.empty_like(a) if n else None for a, n in zip(held, ctx.needs_input_grad[2:], strict=True)]
        _point(ctx.about, ctx.index, held)
        step.embed_backward(ctx.about, standard, inverse, dy_MD.contiguous(), wanted)
        return None, None, *wanted


def _point(about: step.StepEmbed, index: list[Tensor | None], arrays: list[Tensor | None]) -> None:
    """Where arrays are: the tables, with the rows that are read of each, and the norm's weight and bias."""
    *tables, weight, bias = arrays
    for k, (table, rows) in enumerate(zip(tables, index, strict=True)):
        if table is not None and rows is not None:
            about.table[k], about.index[k], about.rows[k] = table.data_ptr(), rows.data_ptr(), len(table)
    about.norm_weight = None if weight is None else weight.data_ptr()
    about.norm_bias = None if bias is None else bias.data_ptr()
