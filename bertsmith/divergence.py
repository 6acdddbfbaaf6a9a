"""How far apart two predictions are: the Kullback-Leibler divergence KL(P || Q) of logits `one` and `two`.

What logits stand for, a task knows (`Task.kl`): one of K classes, K yes-or-no questions, or numbers. Of each the mean over
all N that are asked is taken; 0 where nothing is.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

LEAST = -1e30  # for logits of what cannot be chosen: minus infinity less itself is no number


def classes(one: Tensor, two: Tensor, target: Tensor) -> Tensor:
    """P is a softmax over the K logits of each of N rows; a row whose target int_N is negative is not asked.

    Raises ValueError for logits that are not one row of K for each target.
    """
    one, two = one.float(), two.float()
    if one.shape[:-1] != target.shape:
        raise ValueError(
            f"logits {list(one.shape)} are not one row for each of the targets {list(target.shape)}: predictions of "
            "this head cannot be compared class by class"
        )
    asked = target >= 0
    log_p, log_q = (x.clamp(min=LEAST).log_softmax(-1) for x in (one, two))
    each = (log_p.exp() * (log_p - log_q)).sum(-1)
    return (each * asked).sum() / asked.sum().clamp(min=1)


def coins(one: Tensor, two: Tensor, target: Tensor) -> Tensor:
    """P is K independent Bernoullis for each of N rows, a sigmoid a logit: their divergences are added."""
    one, two = one.float(), two.float()
    p, yes, no = one.sigmoid(), F.logsigmoid(one) - F.logsigmoid(two), F.logsigmoid(-one) - F.logsigmoid(-two)
    return (p * yes + (1 - p) * no).sum() / max(1, len(one))


def numbers(one: Tensor, two: Tensor, target: Tensor) -> Tensor:
    """P is K normal distributions of unit variance for each of N rows: half their squared distances are added. One whose
    target [N, K] (or [N], of one number) is NaN is not asked."""
    asked = ~target.isnan().view(one.shape)
    return ((one.float() - two.float()).square() * asked).sum() / (2 * max(1, len(one)))


def at_rest(logits: Any) -> Any:
    """The same without a gradient, also where they are several by name."""
    return {name: at_rest(x) for name, x in logits.items()} if isinstance(logits, dict) else logits.detach()
