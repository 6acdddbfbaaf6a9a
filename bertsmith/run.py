"""What a run is: a value. Recipes are functions that return one; `bertsmith.train.train` does it."""

from dataclasses import dataclass, field
from typing import Any

from bertsmith.optim import optim as optims
from bertsmith.schedule import schedule as schedules
from bertsmith.select import select as selects
from bertsmith.spec import Spec, to_plain


@dataclass
class Stage:
    """A part of a run. Changes are edits and grafts: [{"how": "edit", "where": pattern, "name": str, "spec": Spec}]."""

    objective: Spec
    data: Spec
    budget: str = "1000-steps"
    optim: Spec = field(default_factory=lambda: optims("adamw"))
    schedule: Spec = field(default_factory=lambda: schedules("linear"))
    select: Spec = field(default_factory=lambda: selects("paths"))
    resize: list[Spec] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    leave: str = "keep"  # its own changes, at its end: "keep", "bake" (edits, into the weights) or "drop"
    keep_moments: bool = True
    accumulate: int = 1  # micro-batches a step, over all processes
    clip: float = 1.0


@dataclass
class Run:
    """Everything that a run is; saved, resolved, as OUT/run.json. The fields after `precision` change no weight."""

    encoder: Spec
    stages: list[Stage]
    seed: int = 0
    precision: str = "auto"  # "bf16" (with fp32 masters), "fp32", or "auto": what the processor does well
    workers: int = 1
    log_every: int = 20
    save_seconds: float = 120.0
    recompute: bool = False  # layers run again in the backward pass: the memory of one layer, a third more time
    save_steps: int = 0  # also every so many steps; 0: by time only

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with every default written out."""
        return to_plain(vars(self) | {"stages": [vars(stage) for stage in self.stages]})
