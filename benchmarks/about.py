"""What makes a figure repeatable: the command, the commit, the machine. And one place that writes results."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def about() -> dict[str, Any]:
    """Command, commit (with "+" if the tree has changes), processor, cores and library versions."""
    import torch

    here = Path(__file__).parent.parent
    git = [subprocess.run(["git", *a], cwd=here, capture_output=True, text=True).stdout.strip()
           for a in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno"])]  # fmt: skip
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info.splitlines())}
    name = said.get("model name", platform.machine())
    if "cpu family" in said:  # clouds name a processor without its generation
        name += f" (family {said['cpu family']}, model {said.get('model')})"
    arguments = [Path(a).name if "/" in a else a for a in sys.argv[1:]]
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]),
        "commit": (git[0] or "unknown") + ("+" if git[1] else ""),
        "machine": f"{len(os.sched_getaffinity(0))} cores of {name}, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
    }


def write(result: dict[str, Any], out: str) -> None:
    """Print a result, and write it as JSON if `out` names a file."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text + "\n")
