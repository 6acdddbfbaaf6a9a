"""The table of a suite: cells to the rows of a summary, and a summary to markdown. Plain JSON goes in; no file is read.

One number of all sets, as BLURB has it: the mean over the kinds of sets of the mean over the sets of a kind, Gu et al. 2020,
arXiv:2007.15779, section 2.3, so that a kind with many sets does not outweigh the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bertsmith.interval import t_interval

# baselines of a column, the first that a set has, and its title
SIMPLE = (("majority", "majority"), ("tfidf word_tags", "TF-IDF, or words' tags"))
COSTS = ("trained numbers", "seconds", "peak memory, MB", "file, MB")


def rows_of(cells: Iterable[dict[str, Any]], about: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a summary (see `suite.summary`): one a model, method and protocol.

    about: what each set is, in the order of the table; cells of other sets are left out.
    """
    found: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for cell in cells:
        asked = cell["asked"]
        row = found.setdefault((asked["model"], asked["method"], asked["protocol"]["name"]), {})
        row.setdefault(asked["set"], []).append(cell)
    return [_row(key, found[key], about) for key in sorted(found)]


def _row(key: tuple[str, str, str], of: dict[str, list[dict[str, Any]]], about: dict[str, Any]) -> dict[str, Any]:
    """One row, of its cells by set; what stands for all sets is of the seeds that each of them has."""
    model, method, protocol = key
    there = {name: sorted(of[name], key=lambda cell: cell["asked"]["seed"]) for name in about if name in of}
    first = next(iter(there.values()))[0]["asked"] if there else {}
    found: dict[str, Any] = {"model": model, "method": method, "protocol": protocol, "settings": first.get("protocol")}
    found["sets"] = {name: _entry(cells, about[name]) for name, cells in there.items()}
    scores = {name: {cell["asked"]["seed"]: cell["score"] for cell in cells} for name, cells in there.items()}
    shared = sorted(set.intersection(*(set(x) for x in scores.values()))) if scores else []
    kinds = [_kinds({name: scores[name][seed] for name in scores}, about) for seed in shared]
    found["kinds"] = {kind: _mean([one[kind] for one in kinds]) for kind in (kinds[0] if kinds else {})}
    found["aggregate"] = t_interval([_mean(list(one.values())) for one in kinds]) | {"sets": list(there)}
    found["missing"] = [name for name in about if name not in there]
    return found


def _entry(cells: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """One set in a row."""
    found: dict[str, Any] = {"metric": about["shown"], **t_interval([cell["score"] for cell in cells])}
    found["seeds"] = {str(cell["asked"]["seed"]): cell["score"] for cell in cells}
    found["degenerate"] = {str(cell["asked"]["seed"]): cell["degenerate"] for cell in cells if cell["degenerate"]}
    names = dict.fromkeys(name for cell in cells for name in cell["test"])
    found["test"] = {name: _mean([cell["test"].get(name) for cell in cells]) for name in names}
    found["seconds"] = _mean([cell["seconds"] for cell in cells])
    found["trials"] = sum(len(cell["trials"]) for cell in cells)
    for name in ("trained", "parameters", "bytes"):
        found[name] = next((cell[name] for cell in cells if name in cell), None)
    for name in ("memory", "device_memory"):
        found[name] = max((cell[name] for cell in cells if cell[name] is not None), default=None)
    return found


def _kinds(score: dict[str, float | None], about: dict[str, Any]) -> dict[str, float | None]:
    """The mean over the sets of each kind."""
    names = dict.fromkeys(about[name]["kind"] for name in score)
    return {kind: _mean([score[name] for name in score if about[name]["kind"] == kind]) for kind in names}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is not defined."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def markdown(found: dict[str, Any]) -> str:
    """A summary as a table: a line a set, a column a row of the summary, beside the baselines. Turned, where there are more
    rows than sets, with what each row costs."""
    rows = found["rows"]
    if len(rows) > max(len(found["sets"]), 3):
        return _turned(found)
    titles = [f"{row['model']}, {row['method']}, {row['protocol']}" for row in rows]
    lines = [_line(["set", "score", *(title for _, title in SIMPLE), *titles]), _line(["---"] * (4 + len(rows)))]
    for name, about in found["sets"].items():
        said = [shown(row["sets"][name]) if name in row["sets"] else "" for row in rows]
        lines.append(_line([name, about["shown"], *(_simple(about, which) for which, _ in SIMPLE), *said]))
    lines.append(_line(["all", "mean of kinds", "", "", *(shown(row["aggregate"]) for row in rows)]))
    return "\n".join(lines)


def _turned(found: dict[str, Any]) -> str:
    """A line a row of the summary, best first, a column a set; seconds are of all sets, one seed."""
    titles = [f"{name} ({about['shown']})" for name, about in found["sets"].items()]
    lines = [_line(["model", "method", "protocol", *titles, "all", *COSTS])]
    lines.append(_line(["---"] * (4 + len(titles) + len(COSTS))))
    for which, title in SIMPLE:
        said = [_simple(about, which) for about in found["sets"].values()]
        lines.append(_line(["", title, "", *said, *[""] * (1 + len(COSTS))]))
    for row in sorted(found["rows"], key=lambda row: -(row["aggregate"]["mean"] or 0)):
        there = row["sets"].values()
        said = [shown(row["sets"][name]) if name in row["sets"] else "" for name in found["sets"]]
        seconds = [one["seconds"] for one in there]
        held = [[one[k] for one in there if one[k] is not None] for k in ("trained", "memory", "bytes")]
        trained, memory, size = (max(some, default=None) for some in held)
        cost = ["" if trained is None else f"{trained:,}", "" if None in seconds else f"{sum(seconds):.0f}"]
        cost += ["" if memory is None else f"{memory / 1e6:,.0f}", "" if size is None else f"{size / 1e6:.2f}"]
        lines.append(_line([row["model"], row["method"], row["protocol"], *said, shown(row["aggregate"]), *cost]))
    return "\n".join(lines)


def _simple(about: dict[str, Any], which: str) -> str:
    """A baseline's score of a set, the first's of those that are named that has one; "" where none has."""
    held = (about["baselines"].get(name, {}).get(about["metric"]) for name in which.split())
    value = next((one for one in held if one is not None), None)
    return "" if value is None else f"{value:.3f}"


def shown(value: dict[str, Any]) -> str:
    """A mean with its interval, and how many of its runs are worth nothing."""
    said = rounded(value["mean"])
    if value["low"] is not None:
        said += f" [{value['low']:.3f}, {value['high']:.3f}]"
    lost = len(value.get("degenerate", ()))
    return said + (f", {lost} of {value['n']} degenerate" if lost else "")


def rounded(value: float | None) -> str:
    """A score to three places."""
    return "not defined" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
