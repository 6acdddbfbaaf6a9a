"""Linear warm-up, then linearly to `final`.  BERT, Devlin et al. 2018, arXiv:1810.04805, appendix A.2."""

from bertsmith.schedule import Schedule


class LinearSchedule(Schedule):
    paper = "arXiv:1810.04805"

    def __init__(self, *, warmup: float = 0.06, final: float = 0.0):
        if not 0 <= warmup < 1:
            raise ValueError(f"schedule/linear: warmup is a share of the budget in [0, 1), not {warmup}")
        self.warmup, self.final = warmup, final

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            # half a per mille from the start, so that the first step of a budget in tokens or seconds moves too
            return max(progress, 5e-4 * self.warmup) / self.warmup
        return 1 - (1 - self.final) * (progress - self.warmup) / (1 - self.warmup)
