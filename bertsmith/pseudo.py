"""Pseudo-log-likelihood: the sum over the tokens of a text of log p(token | all others), each token masked once.

Salazar et al. 2020, Masked Language Model Scoring, arXiv:1910.14659, equation 1; pseudo-perplexity is equation 2.
A text of n tokens is n rows, each with another token hidden. Rows of one length make a batch, whatever text they
are from, so nothing is padding; the head sees the hidden places only. [CLS] and [SEP] are never hidden and never
counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from bertsmith.layout import Layout
from bertsmith.model import Model
from bertsmith.tokenizer.load import special_ids

BUDGET = 8192  # tokens of one batch: larger ones leave the cache of a CPU


@contextmanager
def still(model: Model) -> Iterator[torch.device]:
    """Dropout off and no gradients inside; each module's mode is put back. Gives the device of the weights."""
    before = [(module, module.training) for module in model.bundle.modules()]
    model.bundle.eval()
    try:
        with torch.inference_mode():
            yield model.device
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def evaluating(model: Model) -> Iterator[torch.device]:
    """`still`, of a model with a masked-LM head. Raises ValueError if it has none."""
    if model.head is None or not model.head.speaks:
        raise ValueError("this model has no masked-LM head; load the directory of a pre-trained model, or of a run")
    with still(model) as device:
        yield device


def rows_of(model: Model, texts: Sequence[str], max_length: int) -> list[np.ndarray]:
    """`[CLS] text [SEP]` as int64 ids, at most `max_length` of them: what is longer is cut."""
    ids = special_ids(model.tokenizer)
    encoded = model.tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [np.array([ids["cls"], *e.ids[: max_length - 2], ids["sep"]], np.int64) for e in encoded]


def pseudo_log_likelihood(
    model: Model, texts: Sequence[str], max_length: int = 128, budget: int = BUDGET
) -> list[tuple[float, int]]:
    """(sum of natural log probabilities, number of tokens) of each text, in order; an empty text is (0.0, 0)."""
    return score_rows(model, rows_of(model, texts, max_length), budget)


def score_rows(model: Model, rows: Sequence[np.ndarray], budget: int = BUDGET) -> list[tuple[float, int]]:
    """The same for rows of ids with [CLS] before and [SEP] behind. Equal rows are computed once."""
    mask_id = special_ids(model.tokenizer, ("mask",))["mask"]
    unique: dict[bytes, int] = {}
    which = [unique.setdefault(row.tobytes(), len(unique)) for row in rows]
    different = [np.frombuffer(key, np.int64) for key in unique]
    total = np.zeros(len(different))
    by_length: dict[int, list[int]] = {}
    for number, row in enumerate(different):
        by_length.setdefault(len(row), []).append(number)
    with evaluating(model) as device:
        for length, numbers in sorted(by_length.items()):
            block = np.stack([different[n] for n in numbers])
            copies = len(block) * (length - 2)
            for start in range(0, copies, max(1, budget // length)):
                copy = np.arange(start, min(copies, start + max(1, budget // length)))
                row, place = copy // (length - 2), copy % (length - 2) + 1
                token, at = block[row], np.arange(len(copy))
                answer = token[at, place]
                token[at, place] = mask_id
                logp = _log_probability(model, token, place, answer, device)
                total += np.bincount(np.take(numbers, row), weights=logp, minlength=len(total))
    return [(float(total[n]), len(rows[i]) - 2) for i, n in enumerate(which)]


def _log_probability(
    model: Model, token: np.ndarray, place: np.ndarray, answer: np.ndarray, device: torch.device
) -> np.ndarray:
    """log p(answer at place) of each row, float64_N; token int64 [N, T] without padding."""
    token_NT = torch.from_numpy(token).to(device)
    layout = Layout.padded(torch.ones_like(token_NT), whole=True)
    x_NTD = model.engine.states(token_NT, layout, "exact")
    at = torch.arange(len(token), device=device)
    logits_NV = model.head.logits(x_NTD[at, torch.from_numpy(place).to(device)], layout).float()
    picked = logits_NV[at, torch.from_numpy(answer).to(device)]
    return (picked - logits_NV.logsumexp(-1)).double().cpu().numpy()


def perplexity(scores: Sequence[tuple[float, int]]) -> float:
    """exp(-sum of all log probabilities / number of all tokens) (equation 2). ValueError if there is no token."""
    count = sum(n for _, n in scores)
    if not count:
        raise ValueError("no token to score: every text is empty")
    return math.exp(-sum(value for value, _ in scores) / count)
