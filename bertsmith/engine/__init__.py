"""How a trained encoder is run: the compiled kernel where it knows every piece and the machine has it, else torch.

A precision is a promise about what comes out, not a way to compute:

    default  every text's vector (the mean of its states) has a cosine of 0.9999 or more to that of fp32
    exact    fp32 throughout; with the kernel a text's vector is the same, bit for bit, whatever stands beside it

Which products may be in bf16 is decided by measuring, on a few texts that come with bertsmith, against fp32. That happens at
the first use, takes well under a second for small models, and is made anew when weights change.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bertsmith import native
from bertsmith.doctor import threads
from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.linear import tensors
from bertsmith.native.plan import Kinds, Plan, Unsupported, best, build, plan

Precision = Literal["default", "exact"]
PROMISE = 0.9999  # cosine to fp32, of every text
MARGIN = 0.5  # of what is left to 1, for texts that were not measured
POOLINGS = {"mean": native.MEAN, "first": native.FIRST}

Texts = Callable[[], list[list[int]]]


@dataclass
class _Ready:
    """What was made of one state of the weights."""

    mark: tuple[Any, ...]
    plan: Plan | None
    why: str  # the kernel is not used, or ""
    handles: dict[str, native.Handle]
    said: dict[str, str]  # what a precision became


class Engine:
    """Runs one encoder in evaluation. The encoder stays as it is; its weights are packed when they are first needed.

    Args:
        longest: tokens of a text at the most.
        probes: ids of some texts, asked for when it is measured what a precision may be.
    """

    def __init__(self, encoder: Encoder, longest: int, probes: Texts):
        self.encoder, self.longest, self.probes = encoder, longest, probes
        self._ready: _Ready | None = None

    def about(self, precision: str = "default") -> dict[str, str]:
        """{"runtime", "precision": what it became, "why": the reason where the kernel is not used}."""
        ready = self._prepare(precision)
        if ready.why:
            return {"runtime": "torch", "precision": "fp32", "why": ready.why}
        return {"runtime": f"kernel ({native.sets()[0].name})", "precision": ready.said[precision], "why": ""}

    def states(self, token_BT: Tensor, layout: Layout, precision: str = "default") -> Tensor:
        """x_BTD, float32: what the encoder gives in evaluation. Padding is 0 where the kernel runs."""
        ready = self._prepare(precision)
        if ready.why or not _plain(layout, self.longest):
            return self.encoder(token_BT, layout)
        real_BT = layout.real_BT
        first = (layout.position_BT == 0)[real_BT].numpy()
        starts = np.append(np.flatnonzero(first), len(first)).astype(np.int32)
        ids = token_BT[real_BT].numpy().astype(np.int32)
        types = None if layout.type_BT is None else layout.type_BT[real_BT].numpy().astype(np.int32)
        found = torch.from_numpy(self._run(ready, precision, ids, starts, native.STATES, types))
        if layout.whole and len(found) == real_BT.numel():
            return found.view(*real_BT.shape, -1)
        out = torch.zeros(*real_BT.shape, found.shape[1])
        out[real_BT] = found
        return out

    def pools(self, pooling: str, precision: str = "default") -> bool:
        """Whether `pooled` can be asked for this pooling."""
        return pooling in POOLINGS and not self._prepare(precision).why

    def pooled(
        self,
        ids: np.ndarray,
        starts: np.ndarray,
        pooling: str,
        precision: str = "default",
        types: np.ndarray | None = None,
    ) -> np.ndarray:
        """float32 [texts, D] of texts that lie one after the other.

        Args:
            ids: int32 [tokens]; starts: int32 [texts + 1]; types: int32 [tokens], or None for all 0.
        """
        return self._run(self._prepare(precision), precision, ids, starts, POOLINGS[pooling], types)

    def _run(
        self, ready: _Ready, precision: str, ids: np.ndarray, starts: np.ndarray, pooling: int, types: np.ndarray | None
    ) -> np.ndarray:
        assert ready.plan is not None
        if types is not None and (ready.plan.kind is None or not types.any()):
            types = None
        for what, given, rows in (("token", ids, ready.plan.word), ("type", types, ready.plan.kind)):
            if (
                given is not None
                and rows is not None
                and len(given)
                and not 0 <= given.min() <= given.max() < len(rows)
            ):
                raise IndexError(f"{what} {given.max()} is not in a table of {len(rows)} rows")
        return ready.handles[precision].run(ids, starts, threads(), pooling, types)

    def _prepare(self, precision: str) -> _Ready:
        if precision not in get_args(Precision):
            raise ValueError(f"no precision {precision!r}; there are: {', '.join(get_args(Precision))}")
        mark = _mark(self.encoder)
        if self._ready is None or self._ready.mark != mark:
            self._ready = self._begin(mark)
        if not self._ready.why and precision not in self._ready.handles:
            self._make(self._ready, precision)
        return self._ready

    def _begin(self, mark: tuple[Any, ...]) -> _Ready:
        why, made = native.why_not(), None
        if not why and any(t.device.type != "cpu" for t in self.encoder.parameters()):
            why = "the weights are not on the CPU"
        if not why:
            try:
                made = plan(self.encoder, self.longest)
            except Unsupported as error:
                why = f"the kernel does not have {error}"
        return _Ready(mark, made, why, {}, {})

    def _make(self, ready: _Ready, precision: str) -> None:
        """Pack the weights as the precision wants them; what bf16 does to the probes decides whether it may be."""
        assert ready.plan is not None
        isa = native.sets()[0]
        exact = ready.handles.get("exact") or build(ready.plan, isa, lambda layer, name: native.FP32)
        handle, said = exact, "fp32"
        if precision == "default" and best(isa) == native.BF16:
            trial, worst = build(ready.plan, isa, lambda layer, name: native.BF16), 1.0
            if texts := [ids for ids in self.probes() if ids]:
                worst = float(_cosine(*(_means(h, texts) for h in (exact, trial))).min())
            if worst >= 1 - MARGIN * (1 - PROMISE):
                handle, said = trial, "bf16"
            else:
                said = f"fp32 (bf16 has a cosine of {worst:.6f} on texts of ours)"
        ready.handles[precision], ready.said[precision] = handle, said


def _mark(encoder: Encoder) -> tuple[Any, ...]:
    """What changes when a weight does: where it lies, and how often it was written to."""
    held = tensors(encoder).values()
    return (encoder.training, *((t.data_ptr(), 0 if t.is_inference() else t._version) for t in held))


def _plain(layout: Layout, longest: int) -> bool:
    """Whether the kernel knows all that a batch's layout says."""
    odd = layout.see_BTT is not None or layout.extra or layout.segment_BT.device.type != "cpu"
    return not odd and (not layout.position_BT.numel() or int(layout.position_BT.max()) < longest)


def _means(handle: native.Handle, texts: list[list[int]]) -> np.ndarray:
    starts = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return handle.run(np.concatenate(texts).astype(np.int32), starts, threads(), native.MEAN)


def _cosine(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    a_ND, b_ND = a_ND.astype(np.float64), b_ND.astype(np.float64)
    scale = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    return (a_ND * b_ND).sum(1) / np.maximum(scale, 1e-30)


__all__ = ["Engine", "Kinds", "Precision"]
