"""Listening, and speaking up.

see(model, where, f)      calls f(path, inputs, output) after every matching module: probes. Outputs are untouched.
say(name, loss)           a piece hands a loss to whoever listens: `say("balance", loss)`. The loop listens:

with heard() as extra:
    out = objective(encoder, batch)
total = out["loss"] + sum(extra.values())
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from bertsmith.linear import matching

# a context variable, so that two threads with two models do not hear each other
_ear: ContextVar[dict[str, Tensor] | None] = ContextVar("ear", default=None)


@runtime_checkable
class Stepped(Protocol):
    """A piece with `step(progress)`: called once per optimiser step, before the first forward, progress of the stage in
    [0, 1), and with 1.0 at its end. It writes buffers; structure that is drawn is drawn here."""

    def step(self, progress: float) -> None: ...


@functools.cache
def stepped(kind: type) -> bool:
    """Whether modules of this class are `Stepped`; asked of every module at every step, which a protocol answers slowly."""
    return issubclass(kind, Stepped)


def say(name: str, value: Tensor) -> None:
    """Add a loss under a name. Nobody listening, or no gradient (a teacher, evaluation): nothing happens."""
    ear = _ear.get()
    if ear is not None and value.requires_grad:
        ear[name] = ear[name] + value if name in ear else value


@contextmanager
def heard() -> Iterator[dict[str, Tensor]]:
    """Collect what is said inside: name -> the sum of what was said."""
    ear: dict[str, Tensor] = {}
    token = _ear.set(ear)
    try:
        yield ear
    finally:
        _ear.reset(token)


@contextmanager
def see(model: nn.Module, where: str, f: Callable[[str, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call f(path, inputs, output) after each forward of the modules whose path matches.

    Raises RuntimeError at the end if it heard nothing (a pattern that hits modules that do not run).
    """
    calls = 0

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def inner(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal calls
            calls += 1
            f(path, inputs, output)

        return inner

    hooks = [m.register_forward_hook(hook(path)) for path, m in matching(model, where)]
    try:
        yield
    finally:
        for h in hooks:
            h.remove()
    if not calls:
        raise RuntimeError(
            f"nothing was heard at {where!r}: the model was not called inside, or not through these modules"
        )
