"""A layer that keeps its input alone and is run once more in the backward pass; and what layers keep, measured.

Chen et al. 2016, arXiv:1604.06174, section 3: a third more arithmetic, and the memory of one layer instead of all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bertsmith import kernels, tap
from bertsmith.layout import Layout

Source = tuple[Tensor, Layout]
Call = Callable[..., Tensor]


@dataclass
class Kept:
    """Bytes that a forward pass keeps for the backward one.

    Attributes:
        rest: outside the layers. layers: (input, all that is kept inside) of every layer.
    """

    rest: int = 0
    layers: list[tuple[int, int]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)  # where arrays lie that were counted, or are weights

    @property
    def whole(self) -> int:
        """Bytes, where every layer keeps what it needs."""
        return self.rest + sum(inside for _, inside in self.layers)

    @property
    def recomputed(self) -> int:
        """Bytes, where a layer keeps its input, and one at a time the rest."""
        return self.rest + sum(x for x, _ in self.layers) + max((inside for _, inside in self.layers), default=0)

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """[bytes kept inside], each array once."""
        count = [0]

        def pack(x: Tensor) -> Tensor:
            if (place := x.untyped_storage().data_ptr()) not in self.seen:
                self.seen.add(place)
                count[0] += x.untyped_storage().nbytes()
            # not x itself: one that a function gave would keep that function, which keeps it, for ever
            return x.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            yield count


_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


def again(f: Call, x_BTD: Tensor, layout: Layout, *source: Source) -> Tensor:
    """f(x_BTD, layout, *source), which runs a layer; inside `kernels.recomputing` it will be run again."""
    if (kept := _kept.get()) is not None:
        with kept.counting() as inside:
            y_BTD = f(x_BTD, layout, *source)
        kept.layers.append((x_BTD.nbytes, inside[0]))
        return y_BTD
    if not kernels.recomputes():
        return f(x_BTD, layout, *source)
    found, same = dict(layout.scratch), kernels.drawn()

    @contextmanager
    def second() -> Iterator[None]:
        """The layer finds what it found, draws what it drew, and is not heard twice."""
        left = dict(layout.scratch)
        _refill(layout.scratch, found)
        try:
            with same(), tap.heard():
                yield
        finally:
            _refill(layout.scratch, left)

    def run(x_BTD: Tensor) -> Tensor:
        return f(x_BTD, layout, *source)

    return checkpoint(run, x_BTD, use_reentrant=False, context_fn=lambda: (nullcontext(), second()))  # type: ignore[no-any-return]


def _refill(scratch: dict, with_these: dict) -> None:
    scratch.clear()
    scratch.update(with_these)


def measured(model: nn.Module, forward: Callable[[], Tensor]) -> Kept:
    """What `forward()`, one pass through `model` in training, keeps. The model's buffers are as they were afterwards."""
    before = [(x, x.clone()) for x in model.buffers()]
    kept = Kept(seen={p.untyped_storage().data_ptr() for p in model.parameters()})
    token = _kept.set(kept)
    try:
        with kept.counting() as outside:
            loss = forward()
        kept.rest = outside[0]
        del loss
    finally:
        _kept.reset(token)
    with torch.no_grad():
        for x, was in before:
            x.copy_(was)
    return kept
