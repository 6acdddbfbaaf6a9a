"""One page that shows a run: curves, filled masks, scores. It opens offline, in light and dark, and needs nothing else.

Read from the directory of a run:
    log.jsonl       one JSON object an interval of the log, as history.py has it
    examples.json   optional: [{"text": "... [MASK] ...", "guesses": [["word", 0.31], ...]}, ...]
    scores.json     optional: [[name, metric, value, low, high], ...]; low and high are null where there is no interval
"""

import html
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bertsmith.files import write_atomic
from bertsmith.history import is_number, points, read_log, total_steps

WIDTH, HEIGHT = 640, 220  # of a chart, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28  # margins around the plot

# Log field -> (title, unit shown on hover). In the order they are drawn.
CURVES = {
    "loss": ("Loss", "nats"),
    "lr": ("Learning rate", ""),
    "tokens_per_s": ("Real tokens per second", "tokens/s"),
    "grad_norm": ("Gradient norm before clipping", ""),
}

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --card: #ffffff; --ink: #1f1f1d; --soft: #6b6a65; --line: #e4e3df;
        --curve: #2a6fb8; --bar: #dbe7f3; }
@media (prefers-color-scheme: dark) { :root { --page: #181817; --card: #20201e; --ink: #ecebe6; --soft: #a3a29b;
        --line: #373733; --curve: #6fb0ee; --bar: #274058; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 46rem; background: var(--page); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0 1rem; color: var(--soft); }
figure { margin: 0 0 1.5rem; } figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .25rem; }
svg { display: block; width: 100%; height: auto; background: var(--card); border: 1px solid var(--line);
      border-radius: 6px; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .stage { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .curve { fill: none; stroke: var(--curve); stroke-width: 1.8; stroke-linejoin: round; }
svg .hit { fill: transparent; } svg .hit:hover { fill: var(--curve); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .85rem; } td.number, th.number { text-align: right; }
blockquote { margin: 1rem 0 .25rem; padding-left: .75rem; border-left: 3px solid var(--curve); }
mark { background: var(--bar); color: inherit; padding: 0 .2em; border-radius: 3px; }
.wide { overflow-x: auto; } .wide table { width: auto; } th.up { writing-mode: vertical-rl; padding: .35rem .2rem; }
td.cell { min-width: 2.2rem; padding: .3rem; text-align: center;
          background: color-mix(in srgb, var(--curve) calc(var(--share) * 65%), transparent); }
td.right { outline: 1px solid var(--line); } details { margin: 2rem 0; color: var(--soft); }
svg .interval { stroke: var(--curve); stroke-width: 1.8; } svg .dot { fill: var(--curve); }
svg .plain { fill: none; stroke: var(--soft); stroke-width: 1.4; stroke-dasharray: 5 3; } svg .plain-dot { fill: var(--soft); }
""".strip()


def write_report(out: Path | str) -> Path:
    """Write `report.html` into the directory of a run, whole or not at all.

    Raises:
        FileNotFoundError: the directory holds neither a log nor examples nor scores.
        ValueError: one of the files is not what the head of this module says; names the file and the line.
    """
    out = Path(out)
    records, examples, scores = read_log(out / "log.jsonl"), _read(out / "examples.json"), _read(out / "scores.json")
    log = [record for record in records if "step" in record]
    if not (log or examples or scores):
        raise FileNotFoundError(
            f"nothing to report in {out}: there is no log.jsonl, examples.json or scores.json with content"
        )
    parts = [f"<h1>{html.escape(out.resolve().name)}</h1>", f"<p>{html.escape(_summary(log))}</p>"]
    parts += [f"<p><b>Warning:</b> {html.escape(str(r['warning']))}</p>" for r in records if "warning" in r]
    if scores:
        parts += ["<h2>Scores</h2>", _score_table(scores, out / "scores.json")]
    if examples:
        parts += ["<h2>Filled masks</h2>", *_filled(examples, out / "examples.json")]
    if log:
        parts.append("<h2>Training</h2>")
        parts += [_chart(log, field, *words) for field, words in CURVES.items() if any(field in line for line in log)]
    write_atomic(out / "report.html", page(out.resolve().name, parts))
    return out / "report.html"


def page(title: str, parts: Sequence[str]) -> str:
    """A page of HTML that needs nothing else."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} - bertsmith</title>\n<style>\n{STYLE}\n</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _read(path: Path) -> list[Any]:
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error.msg}, line {error.lineno})") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: must be a list, it is a {type(rows).__name__}")
    return rows


def _summary(log: Sequence[dict[str, Any]]) -> str:
    if not log:
        return "No training log."
    said = [f"{total_steps(log)[-1]:,} steps"]
    tokens, seconds = (sum(line[key] for line in log if is_number(line.get(key))) for key in ("tokens", "seconds"))
    if tokens:
        said.append(f"{tokens:,.0f} tokens")
    if seconds:
        said.append(f"{seconds / 60:.1f} minutes")
    losses = [line["loss"] for line in log if is_number(line.get("loss"))]
    if losses:
        said.append(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
    return ", ".join(said) + "."


def _score_table(rows: Sequence[Any], path: Path) -> str:
    body = []
    for row in rows:
        if not (isinstance(row, list) and len(row) == 5 and is_number(row[2])):
            raise ValueError(f"{path}: a row is [name, metric, value, low, high], not {row!r:.100}")
        name, metric, value, low, high = row
        interval = f"{low:.3f} to {high:.3f}" if is_number(low) and is_number(high) else ""
        said = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in (name, metric))
        numbers = f'<td class="number">{value:.3f}</td><td class="number">{interval}</td>'
        body.append(f"<tr>{said}{numbers}</tr>")
    head = '<tr><th>what</th><th>metric</th><th class="number">value</th><th class="number">95 % interval</th></tr>'
    return f"<table>{head}{''.join(body)}</table>"


def _filled(examples: Sequence[Any], path: Path) -> list[str]:
    parts = []
    for example in examples:
        if not (isinstance(example, dict) and isinstance(example.get("guesses"), list) and "text" in example):
            raise ValueError(
                f'{path}: an example is {{"text": ..., "guesses": [[word, share], ...]}}, not {example!r:.100}'
            )
        text = html.escape(example["text"]).replace("[MASK]", "<mark>[MASK]</mark>")
        words = ", ".join(f"<b>{html.escape(str(word))}</b> {share:.0%}" for word, share in example["guesses"])
        parts.append(f"<blockquote>{text}</blockquote><p>{words}</p>")
    return parts


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    size *= next(m for m in (1, 2, 5, 10) if m * size >= raw)
    first = math.ceil(low / size - 1e-9)
    return [round(i * size, 12) for i in range(first, math.floor(high / size + 1e-9) + 1)]


def _short(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e7):
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.10g}"


def _chart(log: Sequence[dict[str, Any]], field: str, title: str, unit: str) -> str:
    """One curve over the steps, as inline SVG; the value under the pointer is shown by the browser."""
    steps = total_steps(log)
    drawn = points(log, field)
    if not drawn:
        return f"<figure><figcaption>{title}</figcaption><p>no finite value was logged</p></figure>"
    xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1)
    room = (max(ys) - min(ys)) * 0.06 or abs(max(ys)) * 0.1 or 1.0
    y0 = 0.0 if min(ys) >= 0 and min(ys) < 0.5 * max(ys) else min(ys) - room
    y1 = max(ys) + room

    at, shapes = axes(x0, x1, y0, y1)
    for i in range(1, len(log)):
        if log[i].get("stage") != log[i - 1].get("stage"):
            x, _ = at(steps[i - 1], y0)
            shapes.append(f'<line class="stage" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    shapes.append('<polyline class="curve" points="' + " ".join(f"{x},{y}" for x, y in (at(*p) for p in drawn)) + '"/>')
    for x, y in drawn:
        across, down = at(x, y)
        said = f"step {x:,.0f}: {y:.4g} {unit}".strip()
        shapes.append(f'<circle class="hit" cx="{across}" cy="{down}" r="4"><title>{said}</title></circle>')
    return figure(title, f"{title} over optimiser steps, from {ys[0]:.4g} to {ys[-1]:.4g}", shapes)


Place = Callable[[float, float], tuple[float, float]]


def axes(
    x0: float, x1: float, y0: float, y1: float, names: Sequence[tuple[float, str]] | None = None
) -> tuple[Place, list[str]]:
    """(where a point of a plot stands in its SVG, the lines and numbers of the plot).

    names: what stands below the plot, and where; None: round numbers.
    """

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1
        )

    shapes = []
    for tick in _ticks(y0, y1, 4):
        _, y = at(x0, tick)
        shapes.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        shapes.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_short(tick)}</text>')
    for tick, name in [(x, _short(x)) for x in _ticks(x0, x1, 6)] if names is None else names:
        said = html.escape(name)
        shapes.append(f'<text x="{at(tick, y0)[0]}" y="{HEIGHT - 9}" text-anchor="middle">{said}</text>')
    return at, shapes


def figure(title: str, label: str, shapes: Sequence[str]) -> str:
    """A picture with a title; the label is what is read aloud in its stead."""
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(shapes)}</svg></figure>'
    )
