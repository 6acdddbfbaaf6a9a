"""Tokens regrouped for mixers whose cost grows linearly: one row a document, or chunks of a row with their neighbours.

B rows, T tokens, C documents, L places of the longest, N heads, H head width, G tokens that all may read,
K chunks of c tokens.
"""

import torch
from torch import Tensor

from bertsmith import kernels
from bertsmith.layout import Layout


def documents(layout: Layout, *given_BNTH: Tensor) -> tuple[list[Tensor], Tensor]:
    """([x_CNLH ...], keep_CL): one row per document, zeros where `keep` is False; `packed` is the way back.

    L is the length of the longest document, so that a batch costs what it would cost padded to it. Under a compiler,
    which must not ask the data, L is the width of the rows: it costs more for packed rows.

    A document without any token keeps its first place, so that no softmax over it is empty.
    """
    refuse_see(layout)
    if layout.whole:
        return list(given_BNTH), layout.real_BT
    L, out, keep_CL = longest(layout), [], layout.real_BT
    for x_BNTH in given_BNTH:
        if x_BNTH.shape[2] != layout.segment_BT.shape[1]:
            raise ValueError(
                f"{x_BNTH.shape[2]} keys for {layout.segment_BT.shape[1]} tokens: a core of linear cost reads its own "
                "row's tokens only, no prefix and no other source; choose core softmax"
            )
        x_CLD, keep_CL = layout.unpack(x_BNTH.transpose(1, 2).flatten(2), L)
        out.append(x_CLD.unflatten(-1, x_BNTH.shape[1::2]).transpose(1, 2))
    return out, keep_CL | (~keep_CL.any(1, keepdim=True) & (torch.arange(L, device=keep_CL.device) == 0))


def packed(layout: Layout, x_CNLH: Tensor) -> Tensor:
    """x_BNTH: the tokens where the layout has them, zeros at padding."""
    if layout.whole:
        return x_CNLH
    L, N, H = x_CNLH.shape[2], x_CNLH.shape[1], x_CNLH.shape[3]
    flat_BT = torch.where(layout.real_BT, layout.document_BT * L + layout.position_BT, 0)
    x_CLD = x_CNLH.transpose(1, 2).flatten(2)
    x_BTD = x_CLD.flatten(0, 1).index_select(0, flat_BT.flatten()).unflatten(0, flat_BT.shape)
    x_BTD = torch.where(layout.real_BT[..., None], x_BTD, 0)
    return x_BTD.unflatten(-1, (N, H)).transpose(1, 2)


def longest(layout: Layout) -> int:
    """How many places the longest document takes; an upper bound under a compiler."""
    if layout.whole or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return layout.segment_BT.shape[1]
    made = layout.once(("longest",), lambda: int(torch.where(layout.real_BT, layout.position_BT, 0).amax()) + 1)
    return int(made)


def windowed(
    q_BNTH: Tensor,
    k_BNTH: Tensor,
    v_BNTH: Tensor,
    layout: Layout,
    half: int,
    scale: float,
    dropout: float,
    everywhere: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """Softmax attention to at most `half` places on each side within a document, in time and memory T * half.

    The row is cut into chunks of `half` tokens; a chunk reads itself and its two neighbours, and a mask says what of
    these lies within the window. Padding reads padding, so that no row of a softmax is empty.

    Args:
        everywhere: (k_BNGH, v_BNGH, may_BTG, hide_BT): what every chunk reads beside its window, which token may read
            which of it, and which tokens no window reads (those that are read there already).
    """
    refuse_see(layout)
    N, T = q_BNTH.shape[1:3]
    # an exporter must know that there is more than one chunk
    exporting = torch.compiler.is_exporting()
    c = max(half, 2) if exporting else max(1, min(half, T))
    K = (T + 2 * c - 1) // c if exporting else (T + c - 1) // c

    def near(x: Tensor, fill: int) -> Tensor:
        """[B, K, c, ...] -> [B, K, 3c, ...]: the chunk before, the chunk, the chunk after."""
        wide = torch.cat([torch.full_like(x[:, :1], fill), x, torch.full_like(x[:, :1], fill)], 1)
        return torch.cat([wide[:, :-2], wide[:, 1:-1], wide[:, 2:]], 2)

    def mask() -> Tensor:
        # places beyond the row are of document -1: they read each other, and nobody reads them
        segment, place = chunks(layout.segment_BT, c, K, -1), chunks(layout.position_BT, c, K)
        may = segment[..., :, None] == near(segment, -1)[..., None, :]
        return may & ((place[..., :, None] - near(place, 0)[..., None, :]).abs() <= half)

    may = layout.once(("windowed", half), mask)
    q, k, v = (chunks(x.transpose(1, 2), c, K) for x in (q_BNTH, k_BNTH, v_BNTH))
    B, k, v = q.shape[0], near(k, 0), near(v, 0)
    if everywhere is not None:
        gk_BNGH, gv_BNGH, may_BTG, hide_BT = everywhere
        may = torch.cat([may & ~near(chunks(hide_BT, c, K), 0)[..., None, :], chunks(may_BTG, c, K)], -1)
        all_read = lambda g_BNGH: g_BNGH.transpose(1, 2)[:, None].expand(-1, K, -1, -1, -1)  # noqa: E731
        k, v = torch.cat([k, all_read(gk_BNGH)], 2), torch.cat([v, all_read(gv_BNGH)], 2)
    if exporting:  # chunks beside the heads: an exporter cannot merge two open sizes
        q, k, v = (x.transpose(2, 3).flatten(1, 2) for x in (q, k, v))
        y = kernels.attention(q, k, v, may.repeat_interleave(N, 1), scale, dropout)
        return unchunked(y.unflatten(1, (K, N)).transpose(2, 3), T).transpose(1, 2)
    q, k, v = (x.flatten(0, 1).transpose(1, 2) for x in (q, k, v))
    y = kernels.attention(q, k, v, may.flatten(0, 1)[:, None], scale, dropout)
    return unchunked(y.transpose(1, 2).unflatten(0, (B, K)), T).transpose(1, 2)


def chunks(x: Tensor, size: int, count: int, fill: int = 0) -> Tensor:
    """[B, T, ...] -> [B, count, size, ...], what lies beyond the row being `fill`."""
    # gathered rather than padded: an exporter cannot tell that the padding is never negative
    place = torch.arange(count * size, device=x.device)
    within = (place < x.shape[1]).view(-1, *[1] * (x.dim() - 2))
    x = x.index_select(1, place.clamp(max=x.shape[1] - 1))
    return torch.where(within, x, torch.full((), fill, dtype=x.dtype, device=x.device)).unflatten(1, (count, size))


def unchunked(x: Tensor, length: int) -> Tensor:
    """[B, K, size, ...] -> [B, length, ...]: the way back."""
    return x.flatten(1, 2).index_select(1, torch.arange(length, device=x.device))


def refuse_see(layout: Layout) -> None:
    """Raises ValueError if the layout says who may read whom beyond "same document": it is as large as T x T."""
    if layout.see_BTT is not None:
        raise ValueError("a mixer of linear cost takes no list of who may read whom (see_BTT): choose core softmax")
