"""What is installed is whole: built, put where nothing else of the project lies, and used from another directory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__", "*.so", "docs", "tests")


@pytest.mark.slow
def test_the_wheel_runs_the_quick_demo_elsewhere(tmp_path):
    shutil.copytree(ROOT, tmp_path / "tree", ignore=LEFT)
    options = ["--wheel", "--no-isolation", "--skip-dependency-check", "--outdir", tmp_path / "dist", tmp_path / "tree"]
    subprocess.run([sys.executable, "-m", "build", *options], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    options = ["--no-deps", "--no-index", "--target", tmp_path / "site", wheel]
    subprocess.run([sys.executable, "-m", "pip", "install", *options], check=True, capture_output=True)

    (tmp_path / "elsewhere").mkdir()
    alone = {"cwd": tmp_path / "elsewhere", "env": os.environ | {"PYTHONPATH": str(tmp_path / "site")}}
    where = subprocess.run(
        [sys.executable, "-c", "import bertsmith; print(bertsmith.__file__)"], **alone, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "site")
    command = [sys.executable, "-m", "bertsmith", "demo", "--quick", "--json"]
    done = subprocess.run(command, **alone, check=True, capture_output=True, text=True)
    test = json.loads(done.stdout)["test"]
    assert test["bert"] >= test["majority"] + 0.10
    assert (tmp_path / "elsewhere/runs/demo/report.html").stat().st_size > 10_000
