"""The mean over seeds with its 95 % confidence interval (Student 1908): mean +- t(0.975, n - 1) s / sqrt(n)."""

import math
from collections.abc import Sequence


def t_interval(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """{"mean", "low", "high", "n"} of values over seeds; low and high are None where there are not two.

    If a value is not defined (None) for some seed, the mean over seeds is not either.
    """
    from scipy.stats import t

    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "low": None, "high": None, "n": len(values)}
    n, mean = len(known), math.fsum(known) / len(known)
    if n < 2:
        return {"mean": mean, "low": None, "high": None, "n": n}
    half = float(t.ppf(0.975, n - 1)) * math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (n - 1) / n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}
