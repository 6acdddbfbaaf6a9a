"""How long a stage trains: an amount of steps, tokens, FLOPs or seconds. Schedules follow it in its own unit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["steps", "tokens", "flops", "seconds"]

# What may stand after the number -> (unit, how many of the unit one of it is).
_SUFFIXES: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "seconds": ("seconds", 1.0),
    "steps": ("steps", 1.0),
    "tokens": ("tokens", 1.0),
    "flops": ("flops", 1.0),
}
_FORM = re.compile(r"(?P<amount>[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)[-_ ]?(?P<unit>[a-z]+)")
_EXAMPLES = "30m, 2h, 90s, 10000-steps, 2e9-tokens or 1e15-flops"


@dataclass(frozen=True)
class Budget:
    """An amount to spend.

    Args:
        amount: how much, more than zero; whole when the unit is steps.
        unit: "steps" (of the optimiser), "tokens" (real ones, padding not counted), "flops" (of the model, forward and
            backward) or "seconds" (of training).
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in ("steps", "tokens", "flops", "seconds"):
            raise ValueError(f"no budget unit {self.unit!r}; there are: steps, tokens, flops, seconds")
        if not 0 < self.amount < float("inf"):
            raise ValueError(f"a budget must be a number above zero, not {self.amount}; say for example {_EXAMPLES}")
        if self.unit == "steps" and self.amount != int(self.amount):
            raise ValueError(f"a budget in steps must be a whole number, not {self.amount}")

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """The budget that a text such as "30m" or "2e9-tokens" names. Raises ValueError, showing what forms exist."""
        match = _FORM.fullmatch(text.strip().lower())
        if match is None:
            raise ValueError(f"cannot read the budget {text!r}; say for example {_EXAMPLES}")
        unit = match["unit"]
        if unit not in _SUFFIXES and f"{unit}s" in _SUFFIXES:
            unit = f"{unit}s"  # "1-step"
        if unit not in _SUFFIXES:
            raise ValueError(f"the budget {text!r} has no unit {unit!r}; there are: {', '.join(_SUFFIXES)}")
        name, each = _SUFFIXES[unit]
        return cls(float(match["amount"]) * each, name)

    def progress(self, spent: float | Mapping[str, float]) -> float:
        """The share of the budget that is spent, in [0, 1].

        Args:
            spent: an amount in this budget's unit, or a mapping of unit to amount that holds this unit.
        """
        amount = spent if isinstance(spent, int | float) else spent[self.unit]
        return min(1.0, max(0.0, amount / self.amount))

    def __str__(self) -> str:
        """A text that `parse` reads back to an equal budget."""
        short = f"{self.amount:g}"
        return f"{short if float(short) == self.amount else repr(self.amount)}-{self.unit}"
