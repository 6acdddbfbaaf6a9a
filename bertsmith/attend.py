"""What every attention does between its projections: who may read whom, where they stand, the inner product.

B rows, T tokens, S tokens read, D width, N heads, H head width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bertsmith.core import Core
from bertsmith.layout import Layout
from bertsmith.position import Position

Source = tuple[Tensor, Layout] | None
ToHeads = Callable[[Tensor], Tensor]


def check(position: Position, core: Core, window: int = 0) -> None:
    """Raises ValueError where a core of linear cost would have to take a T x T term."""
    if not core.dense and (window or type(position).score is not Position.score):
        raise ValueError(
            "this core takes neither a window nor a position that adds to the scores: choose another core or position"
        )


def split(linear: ToHeads, head_dim: int) -> ToHeads:
    """x_BTD -> x_BNTH through a layer that is N * H wide."""
    return lambda x: linear(x).unflatten(-1, (-1, head_dim)).transpose(1, 2)


def merge(y_BNTH: Tensor) -> Tensor:
    """-> y_BTD with D = N * H."""
    return y_BNTH.transpose(1, 2).flatten(2)


def attend(
    x_BTD: Tensor,
    layout: Layout,
    source: Source,
    project: tuple[ToHeads, ToHeads, ToHeads],
    position: Position,
    core: Core,
    scale: float,
    window: int = 0,
    finish: ToHeads = lambda x: x,
) -> Tensor:
    """y_BNTH: what `core` makes of queries of x and of keys and values of what is read, x itself where `source` is None.

    Args:
        project: to queries, keys and values, split into heads.
        finish: what happens to queries and keys after their rotation.

    Raises ValueError if there is a source and the core reads its own row only.
    """
    to_q, to_k, to_v = project
    s_BSD, to = source or (x_BTD, layout)
    if source is not None and not core.dense:
        raise ValueError("this core reads its own row only, so that it cannot read another source: choose core softmax")
    q_BNTH, k_BNSH, v_BNSH = to_q(x_BTD), to_k(s_BSD), to_v(s_BSD)
    mask = layout.mask_B1TT(window, to if source else None) if core.dense else None
    score = position.score(q_BNTH, k_BNSH, layout, to, (to_q, to_k))
    if score is not None:
        least = torch.finfo(score.dtype).min
        mask = (score if mask is None else torch.where(mask, score, least)).to(q_BNTH.dtype)
    q_BNTH, k_BNSH = finish(position.rotate(q_BNTH, layout)), finish(position.rotate(k_BNSH, to))
    return core(q_BNTH, k_BNSH, v_BNSH, mask, scale, layout)
