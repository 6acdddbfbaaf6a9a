"""Any number of labels for each text: a sigmoid and binary cross-entropy for each label.

As the multi-label heads of BERT models do it (GoEmotions, Demszky et al. 2020, arXiv:2005.00547, section 5).
"""

from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith import divergence
from bertsmith.metric import metric
from bertsmith.scores import Scores
from bertsmith.task import Task, label_weights


class MultiLabel(Task):
    """Targets float32_NL of 0 and 1. A raw label is a list of names, or a string of names between separators.

    main: the metric by which epochs are chosen: micro_f1, macro_f1 or accuracy (of whole sets).
    threshold: a label is predicted if the sigmoid of its logit is above this; 0: of twentieths that which is best on the
        validation split, by `main` (0.5 until it is chosen).
    weights: what a text that has the label counts for it in the loss, by name, 1 if not named; "balanced": as much as all texts
        that have it not, by the training labels.
    temperature: of each label, what its logit is divided by where probabilities are asked (see `bertsmith.calibration`); []:
        1. No answer changes.
    """

    floor = "micro_f1"
    may_be_empty = True
    fewest = 2
    paper = "arXiv:2005.00547"
    scored = ("micro_f1", "macro_f1", "accuracy")

    def __init__(
        self,
        labels: list[str],
        *,
        main: str = "micro_f1",
        separator: str = "|",
        threshold: float = 0.0,
        weights: dict[str, float] | str = {},  # noqa: B006
        temperature: list[float] = [],  # noqa: B006
    ) -> None:
        super().__init__(labels)
        if labels and len(temperature) not in (0, len(labels)) or not all(t > 0 for t in temperature):
            raise ValueError(
                f"task/multi_label needs a temperature above 0 for each of {len(labels)} labels; got {temperature}"
            )
        if not separator or not 0 <= threshold < 1:
            raise ValueError(
                "task/multi_label needs a separator and a threshold between 0 and 1 (0: chosen); got "
                f"{separator!r} and {threshold}"
            )
        if main not in self.scored:
            raise ValueError(f"task/multi_label measures {', '.join(self.scored)}; not {main!r}")
        self.main, self.separator, self.threshold, self.choose = main, separator, threshold or 0.5, not threshold
        self.balanced, self.weight_L = weights == "balanced", label_weights("multi_label", labels, weights)
        self.temperature = torch.tensor(temperature or [1.0])
        self.number = {name: i for i, name in enumerate(labels)}

    def parts(self, raw: Any) -> list[str]:
        """The names in one raw label."""
        if raw is None:
            return []
        found = raw if isinstance(raw, list | tuple) else str(raw).split(self.separator)
        return [name for x in found if (name := str(x).strip())]

    def names(self, raw: list[Any]) -> list[str]:
        return sorted({name for x in raw for name in self.parts(x)})

    def encode(self, raw: list[Any]) -> Tensor:
        sets = [self.parts(x) for x in raw]
        if unknown := sorted({name for names in sets for name in names} - set(self.number)):
            raise ValueError(
                f"no label {', '.join(map(repr, unknown[:5]))}; there are: {', '.join(map(repr, self.labels))}"
            )
        target_NL = torch.zeros(len(raw), len(self.labels))
        for row, names in enumerate(sets):
            target_NL[row, [self.number[name] for name in names]] = 1.0
        return target_NL

    def starts(self, raw: list[Any]) -> Tensor | None:
        """The log odds of each label, as for rare objects in Lin et al. 2017, arXiv:1708.02002, section 4.1: from 0, where
        every label is as likely as not, small models spend most of a short training on finding that labels are rare. With
        weights, those that the weighted texts have."""
        count_L = self.encode(raw).sum(0)
        odds_L = torch.log((count_L + 0.5) / (len(raw) - count_L + 0.5))
        return odds_L if self.weight_L is None else odds_L + self.weight_L.log()

    def settled(self, raw: list[Any]) -> dict[str, Any]:
        count = Counter(name for x in raw for name in set(self.parts(x))) if self.balanced else Counter()
        return {"weights": {name: max(1, len(raw) - n) / n for name, n in sorted(count.items())}} if count else {}

    def chosen(self, parts: list[list[Any]], raw: list[Any]) -> dict[str, Any]:
        if not self.choose or not raw:
            return {}
        truth, found = self.truth(raw), dict[float, Scores]()
        for self.threshold in (0.5, *(n / 20 for n in range(1, 20))):  # 0.5 first: another must be better
            found[self.threshold] = self.metrics()
            found[self.threshold].add_read(self.read(parts), truth)
        best = 0.5
        for threshold, scores in found.items():
            if scores.better(scores.value()[scores.main], found[best].value()[scores.main]):
                best = threshold
        self.threshold = best
        return {"threshold": best}

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        weight_L = self.weight_L.to(logits.device) if self.weight_L is not None else None
        return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=weight_L)

    def kl(self, one: Tensor, two: Tensor, target: Tensor) -> Tensor:
        return divergence.coins(one, two, target)

    def decode(self, logits: Tensor) -> list[list[str]]:
        return [
            [name for name, said in zip(self.labels, row, strict=True) if said]
            for row in self.predicted(logits).tolist()
        ]

    def probabilities(self, logits: Tensor) -> np.ndarray:
        return (logits.float().cpu() / self.temperature).sigmoid().numpy()

    def predicted(self, logits: Tensor) -> np.ndarray:
        return logits.float().sigmoid().cpu().numpy() > self.threshold

    def true(self, target: Tensor) -> np.ndarray:
        return (target > 0.5).cpu().numpy()

    def metrics(self) -> Scores:
        names = sorted(self.scored, key=lambda name: name != self.main)
        return Scores({name: metric(name).build(len(self.labels)) for name in names})
