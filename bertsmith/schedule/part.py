"""A stretch of another schedule, so that one schedule may span several stages (one an epoch, each followed by a look).

Differs from a paper: this is bookkeeping. The rate over stages that share out [0, 1] is that of `inner` over one stage.
"""

from typing import Any

from bertsmith.schedule import Schedule
from bertsmith.spec import Spec


class Part(Schedule):
    """factor(p) = inner.factor(begin + (end - begin) p)."""

    paper = "arXiv:1810.04805"
    example: dict[str, Any] = {"inner": {"kind": "schedule/linear"}, "begin": 0.0, "end": 0.5}

    def __init__(self, *, inner: Spec, begin: float, end: float):
        if not 0 <= begin < end <= 1:
            raise ValueError(f"schedule/part goes from begin to end, 0 <= begin < end <= 1; got {begin} to {end}")
        self.inner, self.begin, self.end = inner.build(), begin, end

    def factor(self, progress: float) -> float:
        return self.inner.factor(self.begin + (self.end - self.begin) * progress)
