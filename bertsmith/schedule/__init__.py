"""The learning rate over a stage."""

from bertsmith.spec import Slot


class Schedule:
    """factor(progress): what the peak learning rate is multiplied with, progress of the budget in [0, 1)."""

    paper = ""

    def factor(self, progress: float) -> float:
        raise NotImplementedError


schedule = Slot(__name__, Schedule)
