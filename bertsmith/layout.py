"""Where tokens sit. Padded and packed batches are the same thing: a document number per token, 0 for padding.

B rows, T places in a row, S places read from, D width, C documents in the batch.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """All that is known about the tokens of a batch; index arithmetic lives in its methods only.

    Attributes:
        segment_BT: int64, the document of each token, numbered 1, 2, ... along a row; 0 is padding.
        position_BT: int64, the place of each token in its document: the only source of order.
        before_B: int64, how many documents stand in the rows before each row.
        count: how many documents there are; the number of rows of what pools return.
        type_BT: int64 token types (sentence A or B), or None for all 0.
        see_BTT: bool, who may read whom beyond "same document", or None.
        whole: True if every row is one document without padding, so that no mask is needed.
        extra: what else is known of each token, by name, [B, T, ...]: boxes on a page, marks of global tokens.
        scratch: what layers leave for later layers; it lives for one pass (see `fresh`).
    """

    segment_BT: Tensor
    position_BT: Tensor
    before_B: Tensor
    count: int
    type_BT: Tensor | None = None
    see_BTT: Tensor | None = None
    whole: bool = False
    extra: dict[str, Tensor] = field(default_factory=dict)
    scratch: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def padded(cls, keep_BT: Tensor, type_BT: Tensor | None = None, whole: bool = False) -> "Layout":
        """One document a row; `keep_BT` is 1 for tokens, 0 for padding (the attention mask of other libraries)."""
        B, T = keep_BT.shape
        place = torch.arange(T, device=keep_BT.device).expand(B, T)
        rows = torch.arange(B, device=keep_BT.device)
        return cls((keep_BT != 0).long(), place, rows, B, type_BT, whole=whole)

    @classmethod
    def of(cls, segment_BT: Tensor, position_BT: Tensor, type_BT: Tensor | None = None) -> "Layout":
        """Packed rows. Called in the loader, on the CPU: it counts the documents and sees whether a mask is needed."""
        in_row_B = segment_BT.amax(1)
        whole = bool((segment_BT == 1).all())
        return cls(segment_BT, position_BT, in_row_B.cumsum(0) - in_row_B, int(in_row_B.sum()), type_BT, whole=whole)

    @property
    def real_BT(self) -> Tensor:
        """bool: True where a token is, False at padding."""
        return self.segment_BT > 0

    @property
    def document_BT(self) -> Tensor:
        """int64 in [0, count): the number of each token's document over the whole batch (0 at padding)."""
        return torch.where(self.real_BT, self.before_B[:, None] + self.segment_BT - 1, 0)

    def to(self, device: torch.device | str) -> "Layout":
        """The same on another device, with an empty scratch."""
        move = {
            name: None if (x := getattr(self, name)) is None else x.to(device, non_blocking=True)
            for name in ("segment_BT", "position_BT", "before_B", "type_BT", "see_BTT")
        }
        extra = {name: x.to(device, non_blocking=True) for name, x in self.extra.items()}
        return replace(self, extra=extra, scratch={}, **move)

    def fresh(self) -> "Layout":
        """The same with an empty scratch: an encoder begins with it, so that no pass sees what another left."""
        return replace(self, scratch={})

    def once(self, key: tuple[Any, ...], make: Any) -> Any:
        """What many layers need alike is made once a pass. Name the piece in the key, by its `id`, if it is its own."""
        if key not in self.scratch:
            self.scratch[key] = make()
        return self.scratch[key]

    def mask_B1TT(self, window: int = 0, to: "Layout | None" = None) -> Tensor | None:
        """bool, True where a token (row) may read a token (column); None if all may read all.

        Padding reads padding, so that no row of a softmax is empty. `window`: at most window // 2 places away.
        """
        if to is None and self.whole and not window and self.see_BTT is None:
            return None
        return self.once(("mask", window, id(to)), lambda: self._mask(window, to or self))

    def _mask(self, window: int, to: "Layout") -> Tensor:
        may = self.segment_BT[:, :, None] == to.segment_BT[:, None, :]
        if self.see_BTT is not None:
            may = may & (self.see_BTT | ~self.real_BT[:, :, None])
        if window:
            near = self.distance_BTT(to).abs() <= window // 2
            may = may & (near | ~self.real_BT[:, :, None])
        return may[:, None]

    def distance_BTT(self, to: "Layout | None" = None) -> Tensor:
        """int64: position of the reader - position of the read."""
        return self.position_BT[:, :, None] - (to or self).position_BT[:, None, :]

    def take(self, index_BT: Tensor) -> "Layout":
        """The layout of a gathered sub-sequence (late masks, token pruning); documents keep their numbers."""

        def gather(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.gather(1, index_BT)

        see = self.see_BTT
        if see is not None:
            see = see.gather(1, index_BT[:, :, None].expand(-1, -1, see.shape[2]))
            see = see.gather(2, index_BT[:, None, :].expand(-1, index_BT.shape[1], -1))
        return replace(
            self,
            segment_BT=self.segment_BT.gather(1, index_BT),
            position_BT=self.position_BT.gather(1, index_BT),
            type_BT=gather(self.type_BT),
            see_BTT=see,
            extra={k: x[torch.arange(len(x), device=x.device)[:, None], index_BT] for k, x in self.extra.items()},
            scratch={},
        )

    def columns(self, start: int, end: int) -> "Layout":
        """The layout of the places from `start` up to `end` of every row."""
        place = torch.arange(self.segment_BT.shape[1], device=self.segment_BT.device)[start:end]
        return self.take(place.expand(len(self.segment_BT), -1))

    def rows(self, index_R: Tensor) -> "Layout":
        """The layout of some rows; documents are numbered anew."""
        types, see = (None if x is None else x[index_R] for x in (self.type_BT, self.see_BTT))
        made = Layout.of(self.segment_BT[index_R], self.position_BT[index_R], types)
        return replace(made, see_BTT=see, extra={name: x[index_R] for name, x in self.extra.items()})

    def by_document(self) -> tuple["Layout", Tensor, Tensor]:
        """(rows of one document each, C x T; index_CT; index_BT): `x_BTD.flatten(0, 1)[index_CT]` is what stands in those
        rows, and `y_CTD.flatten(0, 1)[index_BT]` brings states back (padding gets those of some token).

        Raises ValueError if `see_BTT` says who reads whom.
        """
        if self.see_BTT is not None:
            raise ValueError("a layout that says who sees whom (`see_BTT`) cannot be cut into documents")
        T, full = self.segment_BT.shape[1], self.count * self.segment_BT.shape[1]
        back_BT = torch.where(self.real_BT, self.document_BT * T + self.position_BT, full)
        place = torch.arange(back_BT.numel(), device=back_BT.device)
        index = place.new_full((full + 1,), -1).index_copy(0, back_BT.flatten(), place)[:-1].unflatten(0, (-1, T))
        keep_CT, index_CT = (index >= 0).long(), index.clamp(min=0)
        rows = Layout.padded(keep_CT, None if self.type_BT is None else self.type_BT.flatten()[index_CT])
        rows.extra.update({name: x.flatten(0, 1)[index_CT] for name, x in self.extra.items()})
        return rows, index_CT, torch.where(self.real_BT, back_BT, 0)

    def shift(self, x_BTD: Tensor, by: int) -> Tensor:
        """y[t] = x[t + by] where that is a token of the same document, else 0: convolutions are made of this."""
        T = x_BTD.shape[1]
        place = torch.arange(T, device=x_BTD.device) + by
        index = place.clamp(0, T - 1)
        same = (self.segment_BT[:, index] == self.segment_BT) & self.real_BT & (place == index)
        same = same & (self.position_BT[:, index] - self.position_BT == by)
        return torch.where(same[..., None], x_BTD[:, index], 0)

    def near_BTJ(self, half: int) -> Tensor:
        """bool: True where the token j - `half` places on, j = 0 ... 2 half, is a real one of the same document."""
        T = self.segment_BT.shape[1]
        place_TJ = torch.arange(T, device=self.segment_BT.device)[:, None]
        by_J = torch.arange(-half, half + 1, device=self.segment_BT.device)
        index_TJ = (place_TJ + by_J).clamp(0, T - 1)
        same = (self.segment_BT[:, index_TJ] == self.segment_BT[..., None]) & self.real_BT[..., None]
        return same & (self.position_BT[:, index_TJ] - self.position_BT[..., None] == by_J)

    def sum_CD(self, x_BTD: Tensor, weight_BT: Tensor) -> Tensor:
        """The weighted sum over each document's tokens; padding counts for nothing."""
        weight_BT = weight_BT.to(x_BTD.dtype) * self.real_BT
        out = x_BTD.new_zeros(self.count, x_BTD.shape[-1])
        return out.index_add(0, self.document_BT.flatten(), (x_BTD * weight_BT[..., None]).flatten(0, 1))

    def unpack(self, x_BTD: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """(x_CLD, keep_CL): one row per document, L = `longest` places, whatever the layout was."""
        flat = torch.where(self.real_BT, self.document_BT * longest + self.position_BT, self.count * longest).flatten()
        x = x_BTD.new_zeros(self.count * longest + 1, x_BTD.shape[-1]).index_copy(0, flat, x_BTD.flatten(0, 1))
        keep = self.real_BT.new_zeros(self.count * longest + 1).index_copy(0, flat, self.real_BT.flatten())
        return x[:-1].unflatten(0, (-1, longest)), keep[:-1].unflatten(0, (-1, longest))
