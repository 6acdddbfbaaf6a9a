"""What a run says while it goes: the log, which is the interface for other tools, and a bar for the eye."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status


class Log:
    """One JSON object a line. Opening cuts it to a length: what a killed run wrote after its last checkpoint goes."""

    def __init__(self, path: Path, length: int, writes: bool = True):
        self.path, self.writes = path, writes
        if writes:
            path.touch()
            os.truncate(path, min(length, path.stat().st_size))

    def say(self, line: dict[str, Any]) -> None:
        """Append one object."""
        if self.writes:
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.writes else 0


class Bar:
    """A live progress bar with the time left; silent if asked."""

    def __init__(self, shown: bool):
        self.shown = shown
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not shown)
        self.task = self.bar.add_task("", total=1.0, note="")

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def move(self, done: float, title: str, note: str) -> None:
        """Show progress in [0, 1] with a few words."""
        self.bar.update(self.task, completed=done, description=title, note=note)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.shown:
            self.bar.console.print(text)


class Counter:
    """A live count where no end is known, on the standard error if that is a terminal; silent if asked."""

    def __init__(self, unit: str, shown: bool = True):
        self.unit, self.count = unit, 0
        console = Console(stderr=True)
        self.status = Status("", console=console) if shown and console.is_terminal else None

    def __enter__(self) -> "Counter":
        if self.status:
            self.status.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.status:
            self.status.stop()

    def add(self, count: int) -> None:
        """So many more."""
        self.count += count
        if self.status:
            self.status.update(f"{self.count:,} {self.unit}")


class Meter:
    """Sums over an interval of the log, then starts anew."""

    def __init__(self) -> None:
        self.norm = 0.0
        self.sums = [0.0] * 6

    def add(self, loss: float, real: float, slots: float, flops: float, seconds: float) -> None:
        """One step: loss, real tokens, places in the batch, arithmetic, time."""
        self.sums = [a + b for a, b in zip(self.sums, (1, loss, real, slots, flops, seconds), strict=True)]

    def line(self, peak: float) -> dict[str, float]:
        """The interval in numbers; `peak` is the machine's measured matmul rate in FLOP/s."""
        steps, loss, real, slots, flops, seconds = self.sums
        self.sums = [0.0] * 6
        return {
            "loss": loss / steps,
            "grad_norm": self.norm,
            "tokens": real,
            "padding": 1 - real / slots,
            "seconds": seconds,
            "tokens_per_s": real / seconds,
            "flops_per_s": flops / seconds,
            "mfu": flops / seconds / peak,
        }
