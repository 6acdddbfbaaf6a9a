"""How long a killed run takes to go on: python benchmarks/resume.py brief_mini corpus/*.xz [--kills 5] [--out results.json].

Pre-training is killed with SIGKILL and started again by the same command. What is measured is from the start of the new
process to the line of its first new step in the log: Python and torch, the checkpoint, the place in the data, the masks,
and that step, whose own time is said beside it.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from about import about, write


def steps(log: Path) -> int:
    return log.read_text().count('"step"') if log.exists() else 0


def wait_for(true: Any, running: subprocess.Popen[bytes]) -> None:
    while not true():
        if running.poll() is not None:
            raise SystemExit(f"the run ended by itself, with exit code {running.returncode}")
        time.sleep(0.01)


def grows(log: Path) -> Any:
    """A check that is true once the file is longer than it ever was since; going on cuts it to the checkpoint first."""
    least = log.stat().st_size

    def check() -> bool:
        nonlocal least
        now = log.stat().st_size
        least = min(least, now)
        return now > least

    return check


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("text", nargs="+")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "bertsmith",
            "pretrain",
            args.recipe,
            "--budget",
            "1000000-steps",
            "--out",
            folder,
        ]
        command += [word for path in args.text for word in ("--data", path)] + ["log_every=1", "save_seconds=5"]
        log, took = Path(folder) / "log.jsonl", []

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )

        running = start()
        wait_for(lambda: steps(log) > 3 and any(Path(folder).rglob("*.safetensors")), running)
        for kill in range(args.kills):
            time.sleep(3 + kill)  # not always as long after a checkpoint
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            new, began = grows(log), time.monotonic()
            running = start()
            wait_for(new, running)
            took.append(round(time.monotonic() - began, 2))
        time.sleep(5)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        lines = [json.loads(line) for line in log.read_text().splitlines() if '"step"' in line]
        size = max(sum(f.stat().st_size for f in d.rglob("*")) for d in Path(folder).glob("checkpoints/*"))
    result = about() | {
        "recipe": args.recipe,
        "checkpoint_mb": round(size / 1e6, 1),
        "seconds_to_the_first_new_step": took,
        "median": statistics.median(took),
        "of_which_the_step": round(statistics.median(line["seconds"] for line in lines), 3),
    }
    write(result, args.out)


if __name__ == "__main__":
    main()
