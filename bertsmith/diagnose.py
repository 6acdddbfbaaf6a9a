"""Where a bad number came from: the batch is gone through once more with every module listened to."""

from typing import Any

import torch
from torch import Tensor

from bertsmith import kernels, tap
from bertsmith.checkpoint import Trained
from bertsmith.learner import Learner
from bertsmith.objective import Batch


def bad_number(learner: Learner, micro: list[Batch], now: Trained, seed: int, rank: int) -> str:
    """The message that names step and first module (in order of computation) with a NaN or infinity."""
    bad: list[str] = []

    def look(path: str, inputs: tuple[Any, ...], output: Any) -> None:
        if path and isinstance(output, Tensor) and not bool(output.isfinite().all()):
            bad.append(path)

    for i, batch in enumerate(micro):
        with torch.no_grad(), kernels.seeded(seed, now.stage, now.step, i, rank), tap.see(learner, "**", look):
            learner.objective(learner.encoder, batch)
    weights = [n for n, p in learner.named_parameters() if not bool(p.isfinite().all())]
    place = f"first in the weight {weights[0]}" if weights else f"first in {bad[0]}" if bad else "in the gradient only"
    return (
        f"a bad number (NaN or infinity) at step {now.step + 1} of stage {now.stage}, {place}. The last good checkpoint "
        f"is kept. Lower the learning rate, clip harder, or use precision='fp32'"
    )
