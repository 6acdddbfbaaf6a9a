"""BLiMP: which of two sentences, alike but for one rule of English, does a masked LM find more probable?

Warstadt et al. 2020, arXiv:1912.00582: 67 paradigms of 1,000 pairs. A pair counts if the grammatical sentence has
the larger pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659, section 4.2), strictly; a score is a mean
over paradigms.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertsmith.model import Model
from bertsmith.pseudo import BUDGET, pseudo_log_likelihood
from bertsmith.table import Say, aloud

PARADIGMS = 67


def blimp(
    model: Model,
    source: str | Path,
    limit: int | None = None,
    budget: int = BUDGET,
    progress: bool = True,
    say: Say = aloud,
) -> dict[str, Any]:
    """Score a model with a masked-LM head.

    source: the archive blimp.tar.xz (read in place, nothing is unpacked to disk), or a folder of its .jsonl files.
    limit: only the first so many pairs of each paradigm.

    Returns plain JSON: "accuracy" (mean over paradigms), "fields" and "terms" (means over their paradigms), "paradigms"
    (accuracy and pairs of each), "ties" (pairs of equal score, counted as wrong), "limit".
    """
    found = dict(sorted(_paradigms(Path(source)), key=lambda item: item[0]))
    if not found:
        raise ValueError(
            f"{source} holds no .jsonl file; BLiMP is a folder or an archive of {PARADIGMS}, one a paradigm"
        )
    if len(found) != PARADIGMS:
        say(
            f"{source}: {len(found)} paradigms instead of the {PARADIGMS} of BLiMP; do not compare with published means"
        )
    paradigms: dict[str, dict[str, Any]] = {}
    ties = 0
    for number, (name, pairs) in enumerate(found.items(), 1):
        pairs = pairs[:limit]
        scores = pseudo_log_likelihood(
            model, [p[key] for p in pairs for key in ("sentence_good", "sentence_bad")], 512, budget
        )
        good, bad = [s for s, _ in scores[::2]], [s for s, _ in scores[1::2]]
        right = sum(g > b for g, b in zip(good, bad, strict=True))
        ties += sum(g == b for g, b in zip(good, bad, strict=True))
        field = str(pairs[0]["field"]).replace("/", "_")  # one file of the 67 writes syntax/semantics
        accuracy = right / len(pairs)
        paradigms[name] = {
            "accuracy": accuracy,
            "pairs": len(pairs),
            "field": field,
            "term": pairs[0]["linguistics_term"],
        }
        if progress:
            say(f"blimp {number}/{len(found)}  {name}  {100 * accuracy:.1f} %")
    return {
        "accuracy": _mean([p["accuracy"] for p in paradigms.values()]),
        "fields": _means(paradigms, "field"),
        "terms": _means(paradigms, "term"),
        "paradigms": paradigms,
        "ties": ties,
        "limit": limit,
    }


def _paradigms(source: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(name, pairs) of every .jsonl file of an archive or a folder."""
    if source.is_dir():
        for path in sorted(source.glob("*.jsonl")):
            yield path.stem, _pairs(str(path), path.read_text(encoding="utf-8"))
        return
    if not source.is_file():
        raise FileNotFoundError(f"no file or folder {str(source)!r}; say where blimp.tar.xz is")
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if (
                    member.isfile()
                    and member.name.endswith(".jsonl")
                    and (file := archive.extractfile(member)) is not None
                ):
                    yield Path(member.name).stem, _pairs(f"{source}:{member.name}", file.read().decode("utf-8"))
    except tarfile.TarError as error:
        raise ValueError(f"{source} is not a tar archive that can be read: {error}") from error


def _pairs(name: str, text: str) -> list[dict[str, Any]]:
    try:
        pairs = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not jsonl: {error}") from error
    wanted = {"sentence_good", "sentence_bad", "field", "linguistics_term"}
    if not pairs or any(not wanted <= set(pair) for pair in pairs):
        raise ValueError(f"{name} is not a paradigm of BLiMP: each line must have {', '.join(sorted(wanted))}")
    return pairs


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _means(paradigms: dict[str, dict[str, Any]], by: str) -> dict[str, float]:
    """The mean accuracy of the paradigms of each field or term."""
    groups = sorted({p[by] for p in paradigms.values()})
    return {group: _mean([p["accuracy"] for p in paradigms.values() if p[by] == group]) for group in groups}
