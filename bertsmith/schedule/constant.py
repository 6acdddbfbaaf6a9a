"""Linear warm-up, then constant.  Zhai et al. 2021, arXiv:2106.04560, section 3.5 (the flat part of their schedule)."""

from bertsmith.schedule import Schedule


class Constant(Schedule):
    paper = "arXiv:2106.04560"

    def __init__(self, *, warmup: float = 0.0):
        self.warmup = warmup

    def factor(self, progress: float) -> float:
        return 1.0 if progress >= self.warmup else max(progress, 5e-4 * self.warmup) / self.warmup
