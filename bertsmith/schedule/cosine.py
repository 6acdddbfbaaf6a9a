"""Linear warm-up, then half a cosine to `final`.  Loshchilov & Hutter 2016, arXiv:1608.03983, eq. 5 (one cycle)."""

import math

from bertsmith.schedule import Schedule


class Cosine(Schedule):
    paper = "arXiv:1608.03983"

    def __init__(self, *, warmup: float = 0.06, final: float = 0.0):
        self.warmup, self.final = warmup, final

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            return max(progress, 5e-4 * self.warmup) / self.warmup
        rest = (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * rest))
