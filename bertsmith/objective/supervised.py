"""Labelled examples: a head on the encoder, trained with it by its task's loss.

BERT, Devlin et al. 2018, arXiv:1810.04805, section 3.2.
"""

from typing import Any

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.objective import Batch, Objective
from bertsmith.spec import Spec


class Supervised(Objective):
    """Settings: a head, a task (which knows the loss), and the task's label names."""

    paper = "arXiv:1810.04805"
    example = {
        "head": {"kind": "head/linear", "pool": {"kind": "pool/first"}},
        "task": {"kind": "task/single_label"},
        "labels": ["a", "b"],
    }

    def __init__(self, encoder: Encoder, *, head: Spec, task: Spec, labels: list[str]):
        super().__init__(encoder)
        self.task = task.build(labels)
        self.head_spec, self.head = head, head.build(encoder, self.task.outputs)

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Any, Any]:
        layout = batch["layout"]
        return self.task.ask(self.head(encoder(batch["token"], layout), layout), batch)

    def loss(self, logits: Any, target: Any) -> Tensor:
        return self.task.loss(logits, target)

    def kl(self, one: Any, two: Any, target: Any) -> Tensor:
        return self.task.kl(one, two, target)
