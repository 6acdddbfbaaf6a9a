"""docs/systems/<id>.toml, one file for a published system that works here, and docs/systems.md, the table made of them.

A file says:
    id, name            the system's row
    state               "whole" if all runs that its row of the list asks for, else "part"; a published score is not asked for
    missing             what does not run yet; there just if state is "part"
    says                a command or a Python expression that says the system
    pieces              the methods it is made of, "mixer/attention"
    recipes             names of runs (optional)
    tests               "tests/test_x.py::test_y", each proving something of it
    evidence            parity (equal to a reference), property, trend (better than a baseline, small), reproduced
    scale               on what the evidence was gained
    figure, paper       our number and the paper's
"""

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

from bertsmith.files import write_atomic
from bertsmith.methods import all_recipes
from bertsmith.spec import find_slot

WORDS = ("id", "name", "state", "says", "evidence", "scale", "figure", "paper")
LISTS = ("pieces", "tests")
EVIDENCE = ("parity", "property", "trend", "reproduced")


def read(folder: Path) -> list[dict[str, Any]]:
    """Every system of the folder, by id.

    Raises:
        ValueError: a file that is not as the head of this module says; names the file and the field.
    """
    systems = []
    for path in sorted(folder.glob("*.toml")):
        try:
            row = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path.name}: {error}") from None
        _check(path, row)
        systems.append(row)
    return systems


def _check(path: Path, row: dict[str, Any]) -> None:
    needed = {*WORDS, *LISTS}
    if odd := (set(row) - {"missing", "recipes"}) ^ needed:
        raise ValueError(
            f"{path.name}: {', '.join(sorted(odd))} missing or unknown; there must be: {', '.join(WORDS + LISTS)}"
        )
    if row["id"] != path.stem:
        raise ValueError(f"{path.name}: its id is {row['id']!r}; file and id must agree")
    if row["state"] not in ("whole", "part") or (row["state"] == "part") != ("missing" in row):
        raise ValueError(f"{path.name}: state is 'whole', or 'part' with 'missing' saying what is")
    if row["evidence"] not in EVIDENCE:
        raise ValueError(f"{path.name}: no evidence {row['evidence']!r}; there are: {', '.join(EVIDENCE)}")


def absent(row: dict[str, Any], root: Path) -> list[str]:
    """What a system names that does not exist: methods, recipes, tests. `root` is the top of the repository."""
    lost = []
    for piece in row["pieces"]:
        room, _, kind = piece.partition("/")
        try:
            find_slot(room).load(kind)
        except ValueError as error:
            lost.append(f"{piece}: {error}")
    lost += [f"{name}: no such recipe" for name in row.get("recipes", []) if name not in all_recipes()]
    return lost + [f"{test}: no such test" for test in row["tests"] if not _is_test(root, test)]


def _is_test(root: Path, test: str) -> bool:
    path, _, name = test.partition("::")
    if not (root / path).is_file():
        return False
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree))


def markdown(systems: list[dict[str, Any]]) -> str:
    """The text of docs/systems.md."""
    whole = sum(row["state"] == "whole" for row in systems)
    lines = [
        "# Systems",
        "",
        f"Published systems that work here: {whole} whole, {len(systems) - whole} in part. Written by `make docs`",
        "from `docs/systems/`; do not edit. Evidence is *parity* (equal to a reference), *property*, *trend* (better",
        "than a baseline, at a small scale) or *reproduced*.",
        "",
        "| system | state | how to say it | evidence | scale | ours | paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in systems:
        state = row["state"] if row["state"] == "whole" else f"part; missing: {row['missing']}"
        said = f"`{row['says']}`"
        cells = (f"{row['id']} {row['name']}", state, said, row["evidence"], row["scale"], row["figure"], row["paper"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_atomic(Path(sys.argv[2]), markdown(read(Path(sys.argv[1]))))
