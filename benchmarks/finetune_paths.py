"""Fine-tuning with the compiled step beside the same with layers in torch, both in bf16: the same scores, within the interval.

    python benchmarks/finetune_paths.py MODEL --work FOLDER [--sets sst2 cola wnut17] [--limit 2000] [--seeds 3] [--out FILE]

The same examples, splits, seeds and settings on both sides (the protocol `small` of docs/suite.md); cells that are done stay in
FOLDER. Where the compiled step is not known here, there is nothing to compare, and the command says so.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

from about import about, write

from bertsmith import kernels
from bertsmith.native import step
from bertsmith.suite import run_suite

PATHS = {"compiled": nullcontext, "torch": kernels.piecewise}
SAID = ("mean", "low", "high", "seeds", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["sst2", "cola", "wnut17"])
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", default=None)
    parser.add_argument("--out", default="")
    given = parser.parse_args()
    if why := step.why_not():
        parser.error(f"there is no compiled step here: {why}")
    found: dict[str, dict] = {}
    for path, context in PATHS.items():
        with context():
            table = run_suite(
                given.model, given.work / path, chosen=given.sets, protocols=["small"], limit=given.limit,
                seeds=given.seeds, cache=given.cache, baselines=False, progress=False,
            )  # fmt: skip
        (row,) = table["rows"]
        for name, cell in row["sets"].items():
            one = found.setdefault(f"{name} ({cell['metric']})", {})
            one |= {f"{path} {what}": cell[what] for what in SAID if what != "seeds"}
            one[f"{path} by seed"] = cell["seeds"]
    settings = {"limit": given.limit, "seeds": given.seeds, "protocol": "small"}
    write(about() | settings | {"scores": found}, given.out)


if __name__ == "__main__":
    main()
