"""A suite's folder as one file for docs/results, and back, so that another machine goes on with it.

    python benchmarks/cells.py FOLDER [FOLDER ...] --out docs/results/NAME.json   # the table and every cell
    python benchmarks/cells.py docs/results/NAME.json --into FOLDER               # the folder again, for `bertsmith evaluate`

Several folders of the same sets become one table; a folder with across.json, the matrix in it and its cells. The commit is
this one; of cells that were made before say so in --note.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from about import about, write

from bertsmith.files import write_atomic
from bertsmith.suite import summary
from bertsmith.suite_cell import Cell, Protocol


def stem(asked: dict) -> str:
    return Cell(**(asked | {"protocol": Protocol(**asked["protocol"])})).stem


def unpack(file: Path, folder: Path) -> None:
    data = json.loads(file.read_text())
    for name, one in data["sets"].items():
        (folder / "sets").mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "sets" / f"{name}.json", json.dumps(one, indent=1))
    for cell in data["cells"]:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "cells" / f"{stem(cell['asked'])}.json", json.dumps(cell, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="+", type=Path)
    parser.add_argument("--out", default="")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--command", default="", help="what made the cells")
    parser.add_argument("--note", action="append", default=[])
    args = parser.parse_args()
    if args.into:
        return unpack(args.given[0], args.into)
    told = about() | ({"command": args.command} if args.command else {}) | {"notes": args.note}
    if (matrix := args.given[0] / "across.json").is_file():
        cells = [json.loads(path.read_text()) for path in sorted((args.given[0] / "across/cells").glob("*.json"))]
        seed = {"seed": cells[0]["asked"]["sample"]}
        return write(told | seed | json.loads(matrix.read_text()) | {"cells": cells}, args.out)
    with tempfile.TemporaryDirectory() as folder:
        for given in args.given:
            for part in ("cells", "sets"):
                shutil.copytree(given / part, Path(folder) / part, dirs_exist_ok=True)
        cells = [json.loads(path.read_text()) for path in sorted((Path(folder) / "cells").glob("*.json"))]
        write(told | {"seed": cells[0]["asked"]["sample"]} | summary(folder) | {"cells": cells}, args.out)


if __name__ == "__main__":
    main()
