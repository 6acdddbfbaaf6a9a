"""Recurrent memory: a long document is read segment by segment, and M vectors carry what was read to the next segment.

    [m_(k+1); y_k] = encoder([m_k; x_k]),   m_0 learned

Each segment is as far as the encoder sees at once, so that time is linear in the length, and memory, in inference, is that of
one segment. Gradients go back through all segments, or through `through` of them.

RMT, Bulatov et al. 2022, arXiv:2207.06881, section 3.2; encoders (memory in front only): Bulatov et al. 2023,
arXiv:2304.11062, section 2.

Differs from the paper: memory enters after the embedding, so that it gets no embedding of its place (it stands at the places
0 to M - 1, tokens after it). Each document has its own memory, so that nothing crosses documents in packed rows.

C documents, L tokens in a segment, M memory vectors, D width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith import kernels
from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.spec import Spec


class Memory(Encoder):
    """Settings: `inner`, the stack that reads a segment; `length` L; `memory` M; `through`, after how many segments the
    gradient of the memory is cut (0: never). Tensors bear the names that `inner` gives them, and `memory` is new.
    """

    paper = "arXiv:2207.06881"
    example = {
        "inner": {
            "kind": "encoder/stack",
            "dim": 16,
            "heads": 2,
            "depth": 2,
            "embedding": {
                "kind": "embedding/tokens",
                "vocab": 50,
                "position": {"kind": "position/learned", "length": 64},
                "norm": {"kind": "norm/layer"},
            },
            "blocks": [
                {
                    "kind": "block/sequential",
                    "mixer": {"kind": "mixer/attention"},
                    "ffn": {"kind": "ffn/mlp", "hidden": 24},
                    "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
                }
            ],
            "norm": {"kind": "norm/none"},
        },
        "length": 4,
        "memory": 2,
    }

    def __init__(self, *, inner: Spec, length: int, memory: int, through: int = 0):
        super().__init__()
        if length < 1 or memory < 1:
            raise ValueError(
                f"encoder/memory reads segments of 1 token or more with 1 vector or more of memory; got length {length}, "
                f"memory {memory}"
            )
        self.adopt(inner)
        self.length, self.through = length, through
        self.memory = nn.Parameter(0.02 * torch.randn(memory, self.dim, generator=kernels.generator()))

    def states(self, token_BT: Tensor, layout: Layout) -> list[Tensor]:
        rows, index_CT, back_BT = layout.by_document()
        token_CT = token_BT.flatten()[index_CT]
        memory_CMD, made = self.memory.expand(rows.count, -1, -1), []
        for number, at in enumerate(range(0, token_CT.shape[1], self.length)):
            if number and self.through and number % self.through == 0:
                memory_CMD = memory_CMD.detach()
            end = min(at + self.length, token_CT.shape[1])
            memory_CMD, here = self._segment(token_CT[:, at:end], rows.columns(at, end), memory_CMD)
            made.append(here)
        return [torch.cat(parts, 1).flatten(0, 1)[back_BT] for parts in zip(*made, strict=True)]

    @torch.no_grad()
    def stream(self, tokens: Iterable[int]) -> Iterator[Tensor]:
        """The last states [L, D] of one document, segment after segment; nothing of a segment is kept but the memory.

        Equal to `forward` on the whole document; tokens are taken one by one, so that they may come from anywhere.
        """
        left, memory_1MD = iter(tokens), self.memory[None]
        while segment := list(islice(left, self.length)):
            token_1L = torch.tensor([segment], device=self.memory.device)
            memory_1MD, states = self._segment(token_1L, Layout.padded(token_1L >= 0, whole=True), memory_1MD)
            yield states[-1][0]

    def _segment(self, token_CL: Tensor, layout: Layout, memory_CMD: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(the memory after a segment, the states of its tokens)."""
        (C, M, _), L = memory_CMD.shape, token_CL.shape[1]
        place = torch.arange(M + L, device=token_CL.device).expand(C, -1)
        layout = replace(layout, position_BT=place[:, M:])
        wide = replace(
            layout,
            segment_BT=F.pad(layout.segment_BT, (M, 0), value=1),
            position_BT=place,
            type_BT=None if layout.type_BT is None else F.pad(layout.type_BT, (M, 0)),
            extra={k: F.pad(x, (0, 0) * (x.dim() - 2) + (M, 0)) for k, x in layout.extra.items()},
        )
        x_CLD = self.embed(token_CL, self.prepare(token_CL, layout))
        wide = self.prepare(F.pad(token_CL, (M, 0)), wide)
        states = self.run(torch.cat([memory_CMD.to(x_CLD.dtype), x_CLD], 1), wide)
        return states[-1][:, :M], [x[:, M:] for x in states]
