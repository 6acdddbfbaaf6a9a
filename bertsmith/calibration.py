"""Temperature scaling: scores that can be read as probabilities, by one number fitted on held-out examples.

    q = softmax(z / T),  T = the argmin of the negative log-likelihood on the held-out examples;  of several labels a T each

Guo et al. 2017, arXiv:1706.04599, section 4.2. Dividing by T > 0 changes no answer, only how sure it is of it.

A tag of a token could have one, too; but spans are answered without a score, so that nobody would see it.

Differs from the paper: where no T is best (every held-out answer is right, or they are no better than chance) it stays 1, and
this is said. The error "after" is never measured on the examples that T was fitted on.

N texts, L labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertsmith.evaluate import labelled
from bertsmith.examples import Columns, Examples
from bertsmith.metric import metric
from bertsmith.model import Model
from bertsmith.pseudo import still
from bertsmith.spec import Spec
from bertsmith.split import cut
from bertsmith.table import Say, aloud
from bertsmith.task import Task

WIDEST = 10.0  # temperatures from e^-10 to e^10 are looked at
FEWEST = 10  # examples


def calibrate(
    model: Model,
    source: Any,
    text: str | None = None,
    pair: Columns | None = None,
    label: Columns | None = None,
    test: Any = None,
    bins: int = 15,
    seed: int = 0,
    say: Say = aloud,
) -> Model:
    """A model with the same weights (shared) and answers, whose scores are calibrated on labelled texts it was not trained on.

    Args:
        source, text, pair, label: a table and its columns, as `evaluate` takes them; or Examples.
        test: where the error is measured. None: on halves of `source`, each with the temperature of the other half.
        bins: of the expected calibration error.

    Returns:
        The model; its task holds the temperature, and `report["calibration"]` has "temperature", "examples", "measured" (on
        what), and "before" and "after": {"ece", "nll", "bins": [[answers, mean confidence, share that is right], ...]}.

    Raises ValueError where the model's task gives no probabilities to calibrate, or there are fewer than 10 examples.
    """
    if model.task is None or "temperature" not in model.task.args:
        kind = "none" if model.task is None else model.task.kind
        raise ValueError(f"a temperature calibrates single_label and multi_label; the task of this model is {kind}")
    task = model.task.build(model.labels)
    examples = labelled(model, source, text, pair, label, say)
    if len(examples) < FEWEST:
        raise ValueError(f"{len(examples)} examples are too few to calibrate on; give {FEWEST} at least")
    logits_NL, true = logits_of(model, task, examples), task.true(task.encode(examples.label))
    count, found = len(examples), with_temperature(model.task, temperatures(logits_NL, true, model.labels, say))
    if test is None:
        halves = cut(examples.keys(), task.strata(examples.label), 0.5, seed, "calibrate")
        if not all(halves):
            raise ValueError(f"{len(set(examples.keys()))} different texts cannot be cut in two halves; give test=")
        after = np.zeros(tuple(logits_NL.shape), np.float32)
        for fitted, measured in (halves, halves[::-1]):
            one = with_temperature(model.task, temperatures(logits_NL[fitted], true[fitted], model.labels))
            after[measured] = one.build(model.labels).probabilities(logits_NL[measured])
        how = "halves of the examples, each with the temperature of the other"
    else:
        examples = labelled(model, test, text, pair, label, say)
        logits_NL, true = logits_of(model, task, examples), task.true(task.encode(examples.label))
        after = found.build(model.labels).probabilities(logits_NL)
        how = f"{len(examples)} other examples"
    calibration = {
        "temperature": found.args["temperature"],
        "examples": count,
        "measured": how,
        "before": measure(task.probabilities(logits_NL), true, bins),
        "after": measure(after, true, bins),
    }
    before, now = (calibration[when]["ece"] for when in ("before", "after"))
    say(f"calibrated on {count} examples: expected calibration error {before:.4f}, now {now:.4f} ({how})")
    return Model(
        model.spec,
        model.bundle,
        model.tokenizer,
        model.head_spec,
        found,
        model.labels,
        model.pooling,
        model.max_length,
        model.report | {"calibration": calibration},
        model.origin,
    )


def with_temperature(task: Spec, found_K: np.ndarray) -> Spec:
    """The task with temperatures: a number where its setting is one, else a list."""
    several = isinstance(task.args["temperature"], list)
    return task.replace("temperature", found_K.tolist() if several else float(found_K[0]))


def temperatures(logits_NL: Tensor, true: np.ndarray, labels: list[str], say: Say | None = None) -> np.ndarray:
    """One temperature for classes int_N, one for each label for sets bool_NL.

    labels: what they are called where one has no best temperature, which is said and then 1.
    """
    z_NL = logits_NL.double().cpu().numpy()
    if true.ndim == 1:
        cases = [("", z_NL, true)]
    else:
        zero_N = np.zeros(len(z_NL))
        cases = [
            (f" of {name!r}", np.stack([zero_N, z_NL[:, k]], axis=1), true[:, k].astype(int))
            for k, name in enumerate(labels)
        ]
    found = []
    for name, z_NK, true_N in cases:
        best = best_temperature(z_NK, true_N)
        if best is None and say is not None:
            say(f"no temperature{name} is best on these examples (all are right, or no better than chance): it is 1")
        found.append(best or 1.0)
    return np.array(found)


def best_temperature(z_NL: np.ndarray, true_N: np.ndarray) -> float | None:
    """The T with the least negative log-likelihood of softmax(z / T); None if there is none.

    The likelihood is concave in 1 / T; its slope there, the mean of E_softmax(z / T)[z] - z_true, is 0 at one place at most.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    of_true_N = z_NL[np.arange(len(z_NL)), true_N]

    def slope(log_cold: float) -> float:
        p_NL = softmax(z_NL * np.exp(log_cold), axis=1)
        return float(((p_NL * z_NL).sum(axis=1) - of_true_N).mean())

    if slope(-WIDEST) >= 0 or slope(WIDEST) <= 0:  # no better than chance, or all are right
        return None
    log_cold: Any = brentq(slope, -WIDEST, WIDEST, xtol=1e-10)
    return float(np.exp(-log_cold))


def measure(score_NL: np.ndarray, true: np.ndarray, bins: int) -> dict[str, Any]:
    """{"ece", "nll", "bins"} of probabilities; "bins": [answers, mean confidence, share that is right] of those not empty."""
    ece = metric("ece", bins=bins).build(score_NL.shape[1])
    ece.add(score_NL, true)
    p_NL = score_NL.astype(np.float64)
    of_true = p_NL[np.arange(len(p_NL)), true] if true.ndim == 1 else np.where(true, p_NL, 1 - p_NL)
    count_M, sure_M, right_M = (table.sum(axis=0) for table in (ece.count, ece.sure, ece.right))
    rows = [[int(n), s / n, r / n] for n, s, r in zip(count_M, sure_M, right_M, strict=True) if n]
    tiny = np.finfo(np.float32).tiny
    return {"ece": ece.value(), "nll": float(-np.log(np.maximum(of_true, tiny)).mean()), "bins": rows}


def logits_of(model: Model, task: Task, examples: Examples) -> Tensor:
    """The logits of each example [N, L], in order."""
    rows = task.rows(model.coder(), examples.text, examples.pair, None)
    with still(model):
        found = {i: parts[0] for i, parts in model.parts(task, rows)}
    return torch.stack([found[i] for i in range(len(examples))]).clone()
