"""Which family leaves through which target of `bertsmith export`, and how far what it becomes is from the model.

    python benchmarks/export_families.py [--only bert,albert] [--limit 900] [--out docs/results/export_families.json]
    python benchmarks/export_families.py --page docs/export.md

Each is the bare class of `transformers` at the tiny size of tests/families, its weights random, opened by bertsmith and
exported; what is kept is the largest difference that the export found, or why it was refused. Each family runs in a process
of its own, which may take so many seconds, and is written when it is done: `--only` measures a few anew, and the rows of the
others stay, each with the commit that it was measured at. The second command writes the table of the stored JSON into the page.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from about import about, write

ROOT = Path(__file__).parent.parent
STORED = ROOT / "docs/results/export_families.json"
COMMAND = f"python benchmarks/export_families.py --out {STORED.relative_to(ROOT)}"
TARGETS = ("onnx", "openvino", "torch", "hf", "sentence-transformers")
PACKAGES = ("onnx", "onnxruntime", "onnxscript", "openvino", "sentence-transformers", "torch", "transformers")
SEED = 0  # of the weights, in tests/test_families.py, and of the ids, in bertsmith/export/graph.py
BEGIN, END = "<!-- benchmarks/export_families.py writes from here -->\n", "<!-- to here -->\n"


def one(name: str) -> None:
    """Export a family through every target; a line of JSON for each, [target, difference or reason]."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from test_export_files import FAMILIES, opened

    from bertsmith.export import export

    case = FAMILIES[name]
    with tempfile.TemporaryDirectory() as folder:
        model = opened(case, Path(folder) / "theirs")
        for to in TARGETS[::-1]:  # the quick ones first
            try:
                found = export(model, to, Path(folder) / to)["parity"]["difference"]
            except RuntimeError as error:
                padding = case.reads_padding if to == "sentence-transformers" else ""
                found = padding or str(error)
            except ValueError as error:
                found = str(error)
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            print(json.dumps([to, found]), flush=True)


def measure(name: str, limit: float) -> dict[str, float | str]:
    """{target: the difference, or why there is none} of a family."""
    call = [sys.executable, __file__, "--one", name]
    child = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, wrong = child.communicate(timeout=limit)
        rest = wrong.strip().splitlines()[-1] if child.returncode else ""
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        rest = f"not done in {limit:g} s"
    found = dict(json.loads(line) for line in said.splitlines() if line.startswith('["'))
    return {to: found.get(to, rest) for to in TARGETS}


def table(result: dict[str, Any]) -> str:
    """The part of the page between its two marks."""
    shown = lambda x: "no" if isinstance(x, str) else f"{x:.0e}".replace("e-0", "e-") if x else "0"  # noqa: E731
    lines = [f"| family | {' | '.join(TARGETS)} |", "|---" * (len(TARGETS) + 1) + "|"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, row in result["families"].items():
        lines.append(f"| {name} | {' | '.join(shown(row[to]) for to in TARGETS)} |")
        for to in TARGETS:
            if isinstance(row[to], str):
                reasons.setdefault((name, row[to]), []).append(to)
    said = [f"- {name}, {' and '.join(targets)}: {why}" for (name, why), targets in reasons.items()]
    versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    commits = ", ".join(sorted({row["commit"] for row in result["families"].values()}))
    end = f"Measured by `{COMMAND}` at commit {commits}, seed {result['seed']}: {versions}."
    return "\n".join([*lines, "", *(["Why not:", "", *said, ""] if said else []), end, ""])


def put(page: Path) -> None:
    """Write the table between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page} lacks the lines {BEGIN.strip()} and {END.strip()}")
    page.write_text(
        before + BEGIN + "\n" + table(json.loads(STORED.read_text())) + "\n" + END + after, encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files of tests/families, separated by commas; all if not said")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a family")
    parser.add_argument("--out", default="")
    parser.add_argument(
        "--page", default="", help="write the table of the stored JSON into this page, and measure nothing"
    )
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one)
    if args.page:
        return put(Path(args.page))
    names = sorted(path.stem for path in (ROOT / "tests/families").glob("[!_]*.py"))
    out = Path(args.out)
    found = json.loads(out.read_text())["families"] if out.is_file() else {}
    said = about() | {"command": COMMAND, "seed": SEED, "versions": {name: version(name) for name in PACKAGES}}
    for name in [n for n in names if not args.only or n in args.only.split(",")]:
        found[name] = {"commit": said["commit"], **measure(name, args.limit)}
        write(said | {"families": dict(sorted(found.items()))}, args.out)


if __name__ == "__main__":
    main()
