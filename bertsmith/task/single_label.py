"""One label out of several, softmax and cross-entropy. BERT, Devlin et al. 2018, arXiv:1810.04805, section 4.1."""

from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.task import Task, label_weights


def _name(raw: Any) -> str:
    """A label's name: 1, 1.0 and "1" are the same label, however the table held it."""
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    return str(raw).strip()


def _order(name: str) -> tuple[int, int, str]:
    """Whole numbers by size, then names by letter."""
    is_int = name.lstrip("-").isdecimal()
    return (0, int(name), name) if is_int else (1, 0, name)


class SingleLabel(Task):
    """Targets int64_N.

    main: the metric by which epochs are chosen: accuracy, macro_f1, matthews, or f1 (two labels; of the second one).
    smoothing: the share of the target spread evenly over all labels (Szegedy et al. 2015, arXiv:1512.00567, section 7).
    weights: what a text of a label counts in the loss, by name, 1 if not named; "balanced": all labels alike, n / (L n_c) by
        the training labels, as scikit-learn has it.
    temperature: what logits are divided by where probabilities are asked (see `bertsmith.calibration`); no answer changes.
    """

    floor = "accuracy"
    fewest = 2
    paper = "arXiv:1810.04805"

    def __init__(
        self,
        labels: list[str],
        *,
        main: str = "accuracy",
        smoothing: float = 0.0,
        weights: dict[str, float] | str = {},  # noqa: B006
        temperature: float = 1.0,
    ) -> None:
        super().__init__(labels)
        if not temperature > 0:
            raise ValueError(f"task/single_label needs a temperature above 0; got {temperature}")
        self.main, self.smoothing, self.temperature = main, smoothing, temperature
        self.balanced, self.weight_L = weights == "balanced", label_weights("single_label", labels, weights)
        self.number = {name: i for i, name in enumerate(labels)}
        self.scored = ["accuracy", "macro_f1", "matthews"] + (["f1"] if len(labels) == 2 else [])
        if labels and main not in self.scored:
            raise ValueError(
                f"task/single_label over {len(labels)} labels measures {', '.join(self.scored)}; not {main!r}"
            )

    def names(self, raw: list[Any]) -> list[str]:
        return sorted({_name(x) for x in raw}, key=_order)

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        count = Counter(self.strata(raw)) if self.balanced else Counter()
        return {"weights": {name: len(raw) / (len(count) * n) for name, n in sorted(count.items())}} if count else {}

    def strata(self, raw: list[Any]) -> list[str]:
        return [_name(x) for x in raw]

    def encode(self, raw: list[Any]) -> Tensor:
        names = [_name(x) for x in raw]
        if unknown := sorted(set(names) - set(self.number)):
            raise ValueError(
                f"no label {', '.join(map(repr, unknown[:5]))}; there are: {', '.join(map(repr, self.labels))}"
            )
        return torch.tensor([self.number[name] for name in names], dtype=torch.int64)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        weight_L = self.weight_L.to(logits.device) if self.weight_L is not None else None
        return F.cross_entropy(logits.float(), target, weight_L, label_smoothing=self.smoothing)

    def decode(self, logits: Tensor) -> list[str]:
        return [self.labels[i] for i in logits.argmax(-1).tolist()]

    def probabilities(self, logits: Tensor) -> np.ndarray:
        return (logits.float() / self.temperature).softmax(-1).cpu().numpy()

    def predicted(self, logits: Tensor) -> np.ndarray:
        return logits.argmax(-1).cpu().numpy()

    def true(self, target: Tensor) -> np.ndarray:
        return target.cpu().numpy()

    def metrics(self) -> Scores:
        names = sorted(self.scored, key=lambda name: name != self.main)
        return Scores({name: metric(name).build(len(self.labels)) for name in names})
