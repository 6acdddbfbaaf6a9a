"""How time and memory of every mixer and core grow with the length of a text, forward and backward.

    python benchmarks/mixers.py [--sizes 1024 2048 4096 8192] [--only core/linear mixer/luna] [--rounds 5]
                                [--out docs/results/mixers.json] [--page docs/mixers.md]

One document in one row, fp32, no dropout, one mixer of width 256 with 4 heads. Every piece at every size has a process of its
own; the sizes of a piece follow one another, so that a machine that slows down slows all of them. The exponent is the slope of
log(time) over log(length). A run says nothing (it is void, and writes no page) unless softmax attention grows by more than
T^1.6 in it; those called linear must stay below T^1.3.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from about import about, write

DIM, HEADS = 256, 4
QUADRATIC, LINEAR = 1.6, 1.3  # the least exponent of softmax attention, the most of what is called linear
# settings of a size that is used; the others are taken as their `example` says
SETTINGS: dict[str, dict[str, Any]] = {
    "core/windowed": {"window": 256},
    "core/block_sparse": {"block": 32, "random": 2},
    "core/nystrom": {"landmarks": 64},
    "mixer/longformer": {"window": 256, "first": True},
    "mixer/luna": {"length": 16},
}
CALLED_LINEAR = ("core/linear", "core/windowed", "core/block_sparse", "core/nystrom", "mixer/longformer", "mixer/luna",
                 "mixer/ponet")  # fmt: skip
WITNESS = "core/softmax"


def kinds() -> list[str]:
    """Every core, and every mixer but attention, which the cores stand in."""
    from bertsmith.spec import find_slot

    cores = [f"core/{k}" for k in find_slot("core").kinds()]
    return [WITNESS, *(k for k in cores if k != WITNESS)] + [
        f"mixer/{k}" for k in find_slot("mixer").kinds() if k != "attention"
    ]


def build(name: str) -> Any:
    """The mixer of a name, or attention with the core of that name."""
    from bertsmith.mixer import mixer
    from bertsmith.spec import Spec, find_slot

    room, kind = name.split("/")
    settings = vars(find_slot(room).load(kind)).get("example", {}) | SETTINGS.get(name, {})
    spec = Spec.from_dict({"kind": name} | settings)
    return (spec if room == "mixer" else mixer("attention", core=spec)).build(DIM, HEADS)


def memory(field: str) -> float:
    """A line of /proc/self/status in MB: VmRSS now, VmHWM the most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def one(name: str, size: int, rounds: int) -> dict[str, Any]:
    """Seconds of a pass (the median) and the memory it takes beyond the weights, at its most."""
    import torch

    from bertsmith.layout import Layout

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model, x_BTD = build(name), torch.randn(1, size, DIM, requires_grad=True)
    layout = Layout.padded(torch.ones(1, size), whole=True)

    def step() -> float:
        start = time.perf_counter()
        fresh = layout.fresh()
        fresh.scratch["token_BT"] = torch.zeros(1, size, dtype=torch.int64)
        model(x_BTD, fresh).square().sum().backward()
        return time.perf_counter() - start

    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    step()
    peak = memory("VmHWM") - before
    return {"seconds": statistics.median(step() for _ in range(rounds)), "peak_mb": round(peak, 1)}


def slope(xs: list[int], ys: list[float]) -> float:
    """The exponent b of y = a x^b, by least squares of the logarithms."""
    u, v = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mean_u, mean_v = statistics.fmean(u), statistics.fmean(v)
    return sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True)) / sum((a - mean_u) ** 2 for a in u)


def measure(names: list[str], sizes: list[int], rounds: int) -> dict[str, Any]:
    """{name: {"seconds", "peak_mb": one a size, "exponent"}}, and what is to be thought of it."""
    found: dict[str, Any] = {}
    for name in names:
        rows = []
        for size in sizes:
            command = [sys.executable, __file__, "--one", name, str(size), "--rounds", str(rounds)]
            said = subprocess.run(command, capture_output=True, text=True)
            if said.returncode:
                raise RuntimeError(f"{name} at {size} tokens failed:\n{said.stderr[-2000:]}")
            rows.append(json.loads(said.stdout))
        seconds, peak = [r["seconds"] for r in rows], [r["peak_mb"] for r in rows]
        found[name] = {"seconds": seconds, "peak_mb": peak, "exponent": round(slope(sizes, seconds), 2)}
        print(f"{name}: T^{found[name]['exponent']}", file=sys.stderr, flush=True)
    missed = [n for n in CALLED_LINEAR if n in found and found[n]["exponent"] >= LINEAR]
    return {
        "sizes": sizes,
        "dim": DIM,
        "heads": HEADS,
        "rounds": rounds,
        "settings": {n: SETTINGS[n] for n in names if n in SETTINGS},
        "pieces": found,
        "void": found[WITNESS]["exponent"] <= QUADRATIC,
        "called_linear_and_not": missed,
    }


def picture(result: dict[str, Any]) -> str:
    """An SVG: milliseconds over tokens, both logarithmic, a line a piece."""
    width, height, left, top, right, bottom = 760, 420, 60, 20, 190, 40
    colours = [
        "#1b6ca8",
        "#d1495b",
        "#2e933c",
        "#edae49",
        "#6a4c93",
        "#00798c",
        "#8d6a3f",
        "#444444",
        "#c06c84",
        "#7a9e7e",
    ]
    pieces, sizes = result["pieces"], result["sizes"]
    every = [1000 * s for p in pieces.values() for s in p["seconds"]]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])
    x = lambda size: left + (math.log2(size) - first) / max(last - first, 1e-9) * (width - left - right)  # noqa: E731
    y = lambda ms: top + (high - math.log10(ms)) / (high - low) * (height - top - bottom)  # noqa: E731
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']  # fmt: skip
    for power in range(low, high + 1):
        at = y(10**power)
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10**power:g} ms</text>')
    for size in sizes:
        out.append(f'<text x="{x(size):.1f}" y="{height - bottom + 18}" text-anchor="middle">{size}</text>')
    ends = sorted(pieces, key=lambda n: -pieces[n]["seconds"][-1])
    for place, name in enumerate(ends):
        colour = colours[place % len(colours)]
        points = [(x(s), y(1000 * t)) for s, t in zip(sizes, pieces[name]["seconds"], strict=True)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        legend = top + 14 + 18 * place
        out.append(f'<rect x="{width - right + 14}" y="{legend - 9}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{width - right + 30}" y="{legend}">{name}  T^{pieces[name]["exponent"]}</text>')
    return "\n".join([*out, "</svg>", ""])


def page(result: dict[str, Any], svg: str) -> str:
    """docs/mixers.md."""
    sizes, pieces = result["sizes"], result["pieces"]
    head = ["piece", *(f"{s} tokens" for s in sizes), f"memory at {sizes[-1]}", "time grows as"]
    lines = [
        f"| {name} | {' | '.join(f'{1000 * s:.1f} ms' for s in p['seconds'])} | {p['peak_mb'][-1]:.0f} MB | T^{p['exponent']} |"
        for name, p in sorted(pieces.items(), key=lambda item: item[1]["exponent"])
    ]
    missed = result["called_linear_and_not"]
    return "\n".join([
        "# How mixers grow with the length of a text", "",
        f"Forward and backward of one mixer, width {result['dim']}, {result['heads']} heads, one text a batch, fp32; the",
        f"median of {result['rounds']} passes, every size in a process of its own. Memory is what a pass takes beyond weights",
        "and input, at its most. Softmax attention is made by a kernel that never holds the T x T scores, so that its memory",
        "grows slowly and its time does not.", "",
        f"![time over length]({svg})", "",
        "| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *lines, "",
        f"Called linear and not below T^{LINEAR} here: {', '.join(missed) or 'none'}.", "",
        "Packed rows: `core/windowed`, `mixer/longformer` and `mixer/ponet` cost the same packed as padded, per token.",
        "`core/linear`, `core/nystrom`, `core/block_sparse` and `mixer/luna` are taken document by document in rows of the",
        "longest one: they cost what the padded batch costs. Many marks in `mixer/longformer` (one a document in a row of",
        "short ones) cost tokens times marks.", "",
        f"{result['machine']}; `{result['command']}`; commit {result['commit']}.", "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--only", nargs="+", help=f"some of the pieces; {WITNESS} is always among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="", help="where the JSON goes")
    parser.add_argument("--page", default="", help="where the page goes; the picture lies beside the JSON")
    parser.add_argument("--one", nargs=2, metavar=("PIECE", "SIZE"), help="measure one, and print it (the inner call)")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], int(args.one[1]), args.rounds)))
        return
    if args.page and not args.out:
        parser.error("--page needs --out: the picture lies beside the JSON")
    names = [WITNESS, *(n for n in args.only if n != WITNESS)] if args.only else kinds()
    if unknown := [n for n in names if n not in kinds()]:
        parser.error(f"no {', '.join(unknown)}; there are: {', '.join(kinds())}")
    result = about() | measure(names, args.sizes, args.rounds)
    write(result, args.out)
    if result["void"]:
        grew = result["pieces"][WITNESS]["exponent"]
        sys.exit(
            f"void: softmax attention grew as T^{grew} only, not above T^{QUADRATIC}: larger --sizes, or an idle machine"
        )
    if args.page:
        svg = Path(args.out).with_suffix(".svg")
        svg.write_text(picture(result))
        Path(args.page).write_text(page(result, os.path.relpath(svg, Path(args.page).parent)))
    if result["called_linear_and_not"]:
        sys.exit(f"called linear and not below T^{LINEAR}: {', '.join(result['called_linear_and_not'])}")


if __name__ == "__main__":
    main()
