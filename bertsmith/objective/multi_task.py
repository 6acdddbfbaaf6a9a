"""One encoder, an objective with a head of its own for each task, and losses on one scale.

    L = L_i(x, y) / log n_i,   n_i: of how many outcomes task i predicts one (2 for yes or no, the vocabulary for a token)

so that a task of many labels, whose loss starts at log n_i, weighs no more than one of few. MUPPET, Aghajanyan et al. 2021,
arXiv:2101.11038, section 3 ("loss scaling"). A head a task on a shared encoder: Caruana 1997; MT-BioNER, arXiv:2001.08904.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith.encoder import Encoder
from bertsmith.objective import Batch, Corrupt, Objective
from bertsmith.several import check_names
from bertsmith.spec import Spec


class OfItsTask(Corrupt):
    """What the batch's own task does to it."""

    def __init__(self, inner: dict[str, Corrupt]):
        self.inner = inner

    def __call__(self, batch: Batch, rngs: list[np.random.Generator]) -> Batch:
        for name in _asked(batch, list(self.inner)):
            batch = self.inner[name](batch, rngs)
        return batch


class MultiTask(Objective):
    """A batch says which task it is of, `batch["task"]` (`data/mixture`, `data/cycle`); one that does not is asked by all of
    them, and their losses are added up. Nothing ships but the encoder; the heads are at `tasks.<name>.head`.

    What goes around an objective goes around each task: `tasks={"a": objective("rdrop", inner=...)}`.

    Args:
        tasks: their objectives by name.
        outcomes: n by name. For those not named: the outputs of the task, or the vocabulary where the objective has no task.
            At 1 or below (a number is predicted) the loss is as it is.

    Raises ValueError for a name that cannot be, or outcomes of a task that there is not.
    """

    paper = "arXiv:2101.11038"
    example: dict[str, Any] = {
        "tasks": {
            "side": {
                "kind": "objective/supervised",
                "head": {"kind": "head/linear", "pool": {"kind": "pool/first"}},
                "task": {"kind": "task/single_label"},
                "labels": ["low", "high"],
            },
            "words": {"kind": "objective/masked_lm", "masking": {"kind": "masking/bert"}},
        }
    }

    def __init__(self, encoder: Encoder, *, tasks: dict[str, Spec], outcomes: dict[str, float] = {}):  # noqa: B006
        super().__init__(encoder)
        tasks = dict(sorted(tasks.items()))
        check_names(tasks, "objective/multi_task")
        if unknown := sorted(set(outcomes) - set(tasks)):
            raise ValueError(
                f"objective/multi_task: outcomes of {', '.join(unknown)}, but the tasks are: {', '.join(tasks)}"
            )
        self.tasks = nn.ModuleDict({name: spec.build(encoder) for name, spec in tasks.items()})
        count = {name: outcomes.get(name) or _outcomes(spec, encoder) for name, spec in tasks.items()}
        self.weight = {name: 1 / math.log(n) if n > 1 else 1.0 for name, n in count.items()}

    def corruption(self) -> Corrupt:
        return OfItsTask({name: one.corruption() for name, one in self._all().items()})

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Any, Any]:
        """({name: logits}, {name: target}) of the task of the batch, or of all."""
        names = _asked(batch, list(self.tasks))
        both = {name: self._all()[name].predict(encoder, batch) for name in names}
        return {name: logits for name, (logits, _) in both.items()}, {
            name: target for name, (_, target) in both.items()
        }

    def loss(self, logits: Any, target: Any) -> Tensor:
        """The sum over the tasks that are asked, each on the common scale."""
        return torch.stack(
            [self.weight[name] * self._all()[name].loss(logits[name], target[name]) for name in logits]
        ).sum()

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        """The sum over the tasks that are asked."""
        return torch.stack([self._all()[name].kl(one[name], two[name], target[name]) for name in one]).sum()

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        names = _asked(batch, list(self.tasks))
        losses = {name: self._all()[name](encoder, batch)["loss"] for name in names}
        loss = torch.stack([self.weight[name] * one for name, one in losses.items()]).sum()
        return {"loss": loss} | {name: one.detach() for name, one in losses.items()}

    def _all(self) -> dict[str, Objective]:
        return dict(self.tasks.items())  # type: ignore[arg-type]


def _asked(batch: Batch, names: list[str]) -> list[str]:
    """The tasks that a batch is of. Raises ValueError for one that there is not."""
    name = batch.get("task")
    if name is None:
        return names
    if name not in names:
        raise ValueError(f"a batch of task {name!r}, but objective/multi_task has only: {', '.join(names)}")
    return [name]


def _outcomes(spec: Spec, encoder: Encoder) -> float:
    while "inner" in spec.args:
        spec = spec.args["inner"]
    if "task" in spec.args:
        return spec.args["task"].build(spec.args["labels"]).outputs
    return len(encoder.embedding.table.weight)
