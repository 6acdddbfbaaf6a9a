"""Evaluation without training: a masked LM on held-out text, a fine-tuned model on a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertsmith.blimp import blimp
from bertsmith.corpus.read import documents
from bertsmith.draw import numpy_rng
from bertsmith.examples import Columns, Examples, find_columns, read_examples, take_examples
from bertsmith.layout import Layout
from bertsmith.masking import masking as maskings
from bertsmith.model import Model
from bertsmith.objective.masked_lm import Mask
from bertsmith.pseudo import BUDGET, evaluating, perplexity, pseudo_log_likelihood, score_rows, still
from bertsmith.scores import Scores
from bertsmith.spec import Spec
from bertsmith.table import Say, aloud, read_table
from bertsmith.task import Task
from bertsmith.tokenizer.load import special_ids

__all__ = ["blimp", "evaluate", "masked_lm", "pseudo_log_likelihood", "pseudo_perplexity", "score_examples"]

MEASURED = 256  # examples whose answers are held before they are measured
Source = str | Path | Sequence[str | Path]


def pieces(model: Model, source: Source, max_length: int) -> list[np.ndarray]:
    """Text as in pre-training: documents cut into `[CLS] piece [SEP]` of at most `max_length` ids, none dropped."""
    ids = special_ids(model.tokenizer)
    rows: list[np.ndarray] = []
    for document in documents(source):
        token = [i for line in model.tokenizer.encode_batch(document, add_special_tokens=False) for i in line.ids]
        for start in range(0, len(token), max_length - 2):
            rows.append(np.array([ids["cls"], *token[start : start + max_length - 2], ids["sep"]], np.int64))
    if not rows:
        raise ValueError(f"no text in {source}")
    return rows


def masked_lm(
    model: Model,
    source: Source,
    masking: Spec | None = None,
    max_length: int = 128,
    limit: int | None = None,
    seed: int = 0,
    budget: int = BUDGET,
) -> dict[str, float]:
    """The masked-LM loss (nats a hidden token) on text, corrupted as in pre-training (by default `masking/bert`).

    The mask of piece i is a function of (seed, i): two models with one tokenizer are asked the same. `limit`: the
    first so many pieces. Returns "loss", "perplexity" (its exponential), "accuracy", and the numbers of "asked"
    tokens and "pieces".
    """
    rows = pieces(model, source, max_length)[:limit]
    ids = special_ids(model.tokenizer)
    vocab = len(model.encoder.embedding.table.weight)
    hide = Mask((masking or maskings("bert")).build(vocab, ids["mask"]), list(ids.values()))
    loss, right, asked = 0.0, 0, 0
    with evaluating(model) as device:
        for chosen in _by_length([len(row) for row in rows], budget):
            longest = max(len(rows[i]) for i in chosen)
            token = np.full((len(chosen), longest), ids["pad"], np.int64)
            keep = np.zeros((len(chosen), longest), np.int64)
            for at, i in enumerate(chosen):
                token[at, : len(rows[i])], keep[at, : len(rows[i])] = rows[i], 1
            layout = Layout.padded(torch.from_numpy(keep), whole=bool(keep.all()))
            batch = {"token": torch.from_numpy(token), "layout": layout}
            batch = hide(batch, [numpy_rng(seed, "masked_lm", i) for i in chosen])
            layout, answer = layout.to(device), batch["answer"].to(device)
            x_BTD = model.engine.states(batch["token"].to(device), layout, "exact")
            h_ND = x_BTD.flatten(0, 1)[batch["asked"].to(device)]
            logits_NV = model.head.logits(h_ND, layout).float()
            loss += torch.nn.functional.cross_entropy(logits_NV, answer, reduction="sum").item()
            right += int((logits_NV.argmax(-1) == answer).sum())
            asked += len(answer)
    mean = loss / asked
    return {"loss": mean, "perplexity": math.exp(mean), "accuracy": right / asked, "asked": asked, "pieces": len(rows)}


def pseudo_perplexity(
    model: Model, source: Source, max_length: int = 128, limit: int | None = None, budget: int = BUDGET
) -> dict[str, float]:
    """Pseudo-perplexity of text (Salazar et al. 2020, arXiv:1910.14659, eq. 2): each token is hidden once, alone."""
    scores = score_rows(model, pieces(model, source, max_length)[:limit], budget)
    return {"pseudo_perplexity": perplexity(scores), "tokens": sum(n for _, n in scores), "pieces": len(scores)}


def evaluate(
    model: Model,
    source: Any,
    text: str | None = None,
    pair: Columns | None = None,
    label: Columns | None = None,
    max_length: int = 128,
    say: Say = aloud,
) -> dict[str, float | None]:
    """The metrics of a fine-tuned model on a table or a file of labelled text; columns are guessed, aloud, where not given.

    Raises ValueError if the model has no task, or the table a label that the model does not know.
    """
    examples = labelled(model, source, text, pair, label, say)
    assert model.task is not None
    return score_examples(model, model.task.build(model.labels or []), examples, max_length).value()


def labelled(
    model: Model,
    source: Any,
    text: str | None = None,
    pair: Columns | None = None,
    label: Columns | None = None,
    say: Say = aloud,
) -> Examples:
    """The examples of a source, as a model's task takes them; columns are guessed, aloud, where not given.

    Raises ValueError if the model has no task.
    """
    if model.task is None or model.head is None:
        raise ValueError("this model has no task to be evaluated on; fine-tune it first, or use masked_lm or blimp")
    if (found := read_examples(source, say, model.task)) is not None:
        return found[0]
    table = read_table(source, say=say)
    columns = find_columns(table, text, pair, label, say)
    return take_examples(table, *columns, unlabelled=model.task.build(model.labels).may_be_empty, say=say)


def score_examples(model: Model, task: Task, examples: Examples, max_length: int) -> Scores:
    """The task's metrics over examples; what is kept of an example lives until a few hundred of them are measured."""
    scores, coder = task.metrics(), model.coder(max_length)
    rows = task.rows(coder, examples.text, examples.pair, None)
    held: list[tuple[int, list[Any]]] = []

    def measure() -> None:
        numbers, parts = [i for i, _ in held], [p for _, p in held]
        scores.add_read(task.read(parts), task.truth([examples.label[i] for i in numbers]))
        held.clear()

    with still(model):
        for one in model.parts(task, rows):
            held.append(one)
            if len(held) == MEASURED:
                measure()
        if held:
            measure()
    return scores


def _by_length(lengths: list[int], budget: int) -> list[list[int]]:
    """Row numbers in batches of like length, each of at most `budget` places."""
    order = iter(sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)))
    batches = []
    for first in order:
        batches.append([first, *islice(order, max(0, budget // lengths[first] - 1))])
    return batches
