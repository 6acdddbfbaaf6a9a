"""What the log of a run says, as curves: one JSON object an interval, with the loss and what the interval cost.

`log.jsonl` holds "stage", "step" (of the stage), "loss", "lr", "tokens_per_s", "grad_norm", "flops_per_s"; "tokens" and
"seconds" are the interval's. Lines without "step" are remarks.
"""

import json
import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

MOST_POINTS = 600  # of one curve; longer ones are averaged down to it
# what a curve may run along beside steps -> the fields whose product an interval spends of it, and the scale
SPENT = {"tokens": (["tokens"], 1.0), "hours": (["seconds"], 1 / 3600), "flops": (["flops_per_s", "seconds"], 1.0)}
ALONG = ("steps", *SPENT)

Record = dict[str, Any]


def read_log(path: Path) -> list[Record]:
    """The objects of a log, [] where there is none. A last line that was being written when the run died is left out.

    Raises ValueError, naming the line, for what is no JSON object.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8").split("\n")
    lines = []
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(text):
                break
            raise ValueError(
                f"{path}, line {number}: not JSON ({error.msg}); a log has one JSON object a line"
            ) from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: must be a JSON object, not {line:.60}")
        lines.append(record)
    return lines


def along(log: Sequence[Record], unit: str) -> list[float]:
    """How far the run was at each line, all of which have "step": in steps, tokens, hours or FLOPs, through all stages."""
    if unit == "steps":
        return [float(step) for step in total_steps(log)]
    if unit not in SPENT:
        raise ValueError(f"a curve runs along one of {', '.join(ALONG)}, not {unit!r}")
    fields, scale = SPENT[unit]
    if lacking := [(name, line["step"]) for line in log for name in fields if not is_number(line.get(name))]:
        raise ValueError(f"no {lacking[0][0]!r} at step {lacking[0][1]}, so that it cannot run along {unit}")
    return list(accumulate(math.prod(line[name] for name in fields) * scale for line in log))


def points(log: Sequence[Record], field: str, unit: str = "steps") -> list[tuple[float, float]]:
    """(how far, value) of a field, at most MOST_POINTS of them: neighbours averaged. What is not finite is left out."""
    found = [(x, line[field]) for x, line in zip(along(log, unit), log, strict=True) if is_number(line.get(field))]
    size = math.ceil(len(found) / MOST_POINTS)
    groups = [found[i : i + size] for i in range(0, len(found), size or 1)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def total_steps(log: Sequence[Record]) -> list[int]:
    """Steps counted through all stages: a stage whose count begins anew goes on where the one before it ended."""
    before, last, stage, steps = 0, 0, None, []
    for line in log:
        if line.get("stage") != stage and line["step"] <= last:
            before += last
        stage, last = line.get("stage"), line["step"]
        steps.append(before + last)
    return steps


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
