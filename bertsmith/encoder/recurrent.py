"""Segment recurrence: a long document is read segment by segment, and every layer also reads its input of the segments before.

    h_k^n = layer_n(h_k^(n-1), reading [SG(h_(k-1)^(n-1)); h_k^(n-1)]),   SG: no gradient

`cache` states of the past are kept for each layer, so that a document of any length is read with the memory of one segment, and
n layers carry a fact n times as far as the cache.

Transformer-XL, Dai et al. 2019, arXiv:1901.02860, section 3.2; in both directions within a segment as in XLNet, Yang et al.
2019, arXiv:1906.08237, section 2.4.

Differs from the paper: each document has its own past, so that nothing crosses documents in packed rows. Positions count on
from segment to segment: choose ones that only know distances (`position/transformer_xl`), since tables have an end.

C documents, L tokens in a segment, S of them and of the cache, D width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.spec import Spec

Past = tuple[list[Tensor], Layout]  # each layer's last inputs, and where they stand


class Recurrent(Encoder):
    """Settings: `inner`, the stack that reads a segment; `length` L; `cache`, how many states of the past each layer reads (0:
    none, segments know nothing of each other). Tensors bear the names that `inner` gives them.
    """

    paper = "arXiv:1901.02860"
    example = {
        "inner": {
            "kind": "encoder/stack",
            "dim": 16,
            "heads": 2,
            "depth": 2,
            "embedding": {
                "kind": "embedding/tokens",
                "vocab": 50,
                "position": {"kind": "position/none"},
                "norm": {"kind": "norm/layer"},
            },
            "blocks": [
                {
                    "kind": "block/sequential",
                    "mixer": {"kind": "mixer/attention", "position": {"kind": "position/transformer_xl"}},
                    "ffn": {"kind": "ffn/mlp", "hidden": 24},
                    "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
                }
            ],
            "norm": {"kind": "norm/none"},
        },
        "length": 4,
        "cache": 4,
    }

    def __init__(self, *, inner: Spec, length: int, cache: int):
        super().__init__()
        if length < 1 or cache < 0:
            raise ValueError(
                f"encoder/recurrent reads segments of 1 token or more and a past of 0 or more; got length {length}, "
                f"cache {cache}"
            )
        self.adopt(inner)
        self.length, self.cache = length, cache

    def states(self, token_BT: Tensor, layout: Layout) -> list[Tensor]:
        rows, index_CT, back_BT = layout.by_document()
        token_CT, T = token_BT.flatten()[index_CT], token_BT.shape[1]
        past, made = None, []
        for at in range(0, T, self.length):
            end = min(at + self.length, T)
            past, here = self._segment(token_CT[:, at:end], rows.columns(at, end), past)
            made.append(here)
        return [torch.cat(parts, 1).flatten(0, 1)[back_BT] for parts in zip(*made, strict=True)]

    @torch.no_grad()
    def stream(self, tokens: Iterable[int]) -> Iterator[Tensor]:
        """The last states [L, D] of one document, segment after segment; nothing is kept but the cache.

        Equal to `forward` on the whole document; tokens are taken one by one, so that they may come from anywhere.
        """
        left, at, past = iter(tokens), 0, None
        while segment := list(islice(left, self.length)):
            token_1L = torch.tensor([segment], device=next(self.parameters()).device)
            layout = Layout.padded(token_1L >= 0, whole=True)
            layout, at = replace(layout, position_BT=layout.position_BT + at), at + len(segment)
            past, states = self._segment(token_1L, layout, past)
            yield states[-1][0]

    def _segment(self, token_CL: Tensor, layout: Layout, past: Past | None) -> tuple[Past | None, list[Tensor]]:
        """(what the next segment reads, the states of this one)."""
        layout = self.prepare(token_CL, layout)
        x_CLD = self.embed(token_CL, layout)
        if past is None:
            before, to = [], layout
            states = self.run(x_CLD, layout)
        else:
            before, to = past[0], _join(past[1], layout)
            states = self.run(x_CLD, layout, lambda i, x: (torch.cat([before[i], x], 1), to))
        if not self.cache:
            return None, states
        S = to.segment_BT.shape[1]
        kept = [torch.cat([*before[i : i + 1], x.detach()], 1)[:, -self.cache :] for i, x in enumerate(states[:-1])]
        return (kept, to.columns(max(0, S - self.cache), S)), states


def _join(one: Layout, two: Layout) -> Layout:
    """The tokens of both, side by side."""
    types = None if one.type_BT is None or two.type_BT is None else torch.cat([one.type_BT, two.type_BT], 1)
    return replace(
        two,
        segment_BT=torch.cat([one.segment_BT, two.segment_BT], 1),
        position_BT=torch.cat([one.position_BT, two.position_BT], 1),
        type_BT=types,
        extra={k: torch.cat([one.extra[k], x], 1) for k, x in two.extra.items()},
        scratch={},
    )
