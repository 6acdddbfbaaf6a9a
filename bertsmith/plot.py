"""Curves of several runs in one picture, for a page or a paper: the same loss at equal steps, tokens, hours or FLOPs."""

import io
from collections.abc import Sequence
from pathlib import Path

from bertsmith.files import write_atomic
from bertsmith.history import points, read_log

AXIS = {"steps": "optimiser steps", "tokens": "tokens", "hours": "hours of training", "flops": "FLOPs"}


def plot(runs: Sequence[Path | str], out: Path | str, y: str = "loss", x: str = "steps", log_x: bool = False) -> Path:
    """Draw a number of the logs of runs, one curve each, into a file whose ending says its kind; whole or not at all.

    y: "loss", "lr", "grad_norm", "tokens_per_s" or another number of the log; x: "steps", "tokens", "hours" or "flops".

    Raises:
        ImportError: matplotlib is absent; says what to install.
        FileNotFoundError: a folder without a log.
        ValueError: a number that the log does not have, listing those it has; an ending that cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # not pyplot: no window, and nothing shared with a notebook's figures
        from matplotlib.ticker import EngFormatter
    except ImportError as error:
        raise ImportError("drawing curves needs matplotlib: pip install 'bertsmith[plot]'") from error
    out, figure = Path(out), Figure(figsize=(6.4, 4.0), layout="constrained")
    kind, known = out.suffix.removeprefix("."), figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"{out} must end in one of {', '.join(f'.{name}' for name in sorted(known))}")
    axes = figure.subplots()
    for run, name in zip(runs, _names([Path(run) for run in runs]), strict=True):
        axes.plot(*zip(*_curve(Path(run), y, x), strict=True), label=name, linewidth=1.2)
    axes.set(xlabel=AXIS[x], ylabel=y.replace("_", " "), xscale="log" if log_x else "linear")
    if x != "hours":
        axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(drawn := io.BytesIO(), format=kind, dpi=200)
    write_atomic(out, drawn.getvalue())
    return out


def _curve(run: Path, y: str, x: str) -> list[tuple[float, float]]:
    log = [line for line in read_log(run / "log.jsonl") if "step" in line]
    if not log:
        raise FileNotFoundError(f"no run in {run}: it has no log.jsonl with a step in it")
    try:
        found = points(log, y, x)
    except ValueError as error:
        raise ValueError(f"{run / 'log.jsonl'}: {error}") from None
    if not found:
        known = sorted(name for name, value in log[0].items() if isinstance(value, int | float))
        raise ValueError(f"{run / 'log.jsonl'} has no number {y!r}; it has {', '.join(known)}")
    return found


def _names(runs: list[Path]) -> list[str]:
    """The folders' names, or their paths where two have the same."""
    short = [run.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]
