"""What a number must beat: simple methods on the same splits, measured by the same metrics.

scikit-learn does most of the work (an optional install). No setting is chosen on the split that is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, final

import numpy as np

from bertsmith.examples import Examples
from bertsmith.frozen import Frozen
from bertsmith.spec import Slot, Spec
from bertsmith.task import Task


class Baseline:
    """Fitted on training examples, its settings chosen on validation examples, then asked about others.

    Args:
        task: what is asked: one of L labels ("classes"), any of them ("sets"), a number ("numbers"), or several, of
            which some may be missing ("tables"); or labelled spans of each text ("spans").
        frozen: the encoder, for the kinds that read its vectors; else None.

    Attributes:
        serves: which of "classes", "sets", "numbers", "tables" and "spans" it can.
        weighs: `fit` takes a weight for each training example.
        sums_to_one: the scores of an example are probabilities.
        chosen: what was chosen on the validation examples, and remarks: plain JSON for the report.
    """

    paper: ClassVar[str] = ""
    serves: ClassVar[tuple[str, ...]] = ("classes", "sets", "numbers", "tables")
    weighs: ClassVar[bool] = False
    sums_to_one: ClassVar[bool] = True

    def __init__(self, task: Task, frozen: Frozen | None) -> None:
        self.task, self.frozen = task, frozen
        self.name = type(self).__module__.removeprefix("bertsmith.").replace(".", "/")
        self.chosen: dict[str, Any] = {}

    def learn(self, train: Examples, y: np.ndarray, valid: Examples | None, weight_N: np.ndarray | None) -> None:
        """Fit to train, whose targets are y (see `shape_of`), and choose settings on valid."""
        raise NotImplementedError

    def answer(self, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        """(predictions as the task's metrics take them, score_NL: a number for each label, the higher the likelier).

        The scores are [N, 0] where the answers are numbers.
        """
        raise NotImplementedError

    @final
    def fit(self, train: Examples, valid: Examples | None = None, weight_N: np.ndarray | None = None) -> Self:
        """Fit, and itself. Without valid nothing is chosen: the first of each list of settings is taken.

        Raises ValueError where the task is not one that it serves.
        """
        y = self.targets(train)
        if shape_of(y) not in self.serves:
            raise ValueError(f"{self.name} serves {' and '.join(self.serves)}, not {shape_of(y)}")
        if weight_N is not None and (not self.weighs or y.ndim == 2):
            raise ValueError(
                f"{self.name} cannot weigh examples" + (" that have several answers" if self.weighs else "")
            )
        self.learn(train, y, valid, weight_N)
        return self

    @final
    def predict(self, examples: Examples) -> np.ndarray:
        """The answers, as the task's metrics take them. Labels are not read."""
        return self.answer(examples)[0]

    @final
    def scores(self, examples: Examples) -> np.ndarray:
        """float [N, L], a number for each label, the higher the likelier; [N, 0] where the answers are numbers."""
        return self.answer(examples)[1]

    @final
    def targets(self, examples: Examples) -> Any:
        """The truths, an array; a list of spans for each text, where the task asks for these. Raises ValueError where there is
        neither that nor one answer for each text or pair of texts."""
        if self.task.scheme:
            return self.task.truth(examples.label)
        strings = examples.pair is None or all(isinstance(text, str) for text in examples.pair)
        if not strings or self.task.fields != {"target": "row"}:
            raise ValueError(f"{self.name}: baselines answer for a text, or a pair, as a whole; this task does not")
        y = np.asarray(self.task.true(self.task.encode(examples.label)))
        shape_of(y)
        return y

    @final
    def choose(
        self, options: list[dict[str, Any]], predict: Callable[[dict[str, Any]], np.ndarray], valid: Examples | None
    ) -> dict[str, Any]:
        """The option whose predictions on valid are best in the main metric, the first of equals; noted in `chosen`."""
        chosen, best = options[0], None
        metrics = self.task.metrics()
        for number, option in enumerate(options if valid is not None else []):
            found = measure(self.task, predict(option), valid)[metrics.main]  # type: ignore[arg-type]
            if number == 0 or metrics.better(found, best):
                chosen, best = option, found
        self.chosen |= chosen
        return chosen


baseline = Slot(__name__, Baseline)


def shape_of(y: Any) -> str:
    """What targets are: "classes" (int_N), "sets" (bool_NL), "numbers" (float_N) or "tables" (float_NK, NaN where one is
    missing), or "spans" (a list of lists). Raises ValueError for anything else."""
    if isinstance(y, list):
        return "spans"
    known = {(1, "i"): "classes", (2, "b"): "sets", (1, "f"): "numbers", (2, "f"): "tables"}
    found = known.get((y.ndim, y.dtype.kind))
    if found is None:
        raise ValueError(f"baselines serve classes, label sets and numbers, not targets of {y.dtype} {list(y.shape)}")
    return found


def measure(task: Task, predicted: np.ndarray, examples: Examples) -> dict[str, float | None]:
    """The task's metrics of predictions, as the task reads them, for examples."""
    scores = task.metrics()
    scores.add_read(predicted, task.truth(examples.label))
    return scores.value()


def run(
    spec: Spec, task: Task, train: Examples, valid: Examples | None, test: Examples, frozen: Frozen | None = None
) -> dict[str, Any]:
    """Fit a baseline on train, choose on valid, and measure on test: the metrics, and what was chosen."""
    fitted = spec.build(task, frozen).fit(train, valid)
    return measure(task, fitted.predict(test), test) | fitted.chosen


def majority(task: Task, train: Examples, test: Examples) -> dict[str, float | None]:
    """The metrics of the best constant answer, of any task: the commonest label, each label's commoner value, or the mean."""
    return measure(task, task.constant(train.label, len(test)), test)


def tfidf(task: Task, train: Examples, valid: Examples, test: Examples) -> dict[str, Any]:
    """The metrics of `baseline/linear` over TF-IDF, and the "strength" of regularisation that is best on valid."""
    return run(baseline("linear"), task, train, valid, test)
