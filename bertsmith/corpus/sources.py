"""From what a user names (files, folders, globs, "-") to a fixed list of files to read."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

KINDS = (".txt", ".jsonl", ".csv", ".parquet")
PACKED = ("", ".gz", ".xz")
STDIN = "-"


def kind_of(path: str) -> str | None:
    """ ".txt", ".jsonl", ".csv" or ".parquet", whatever compression follows; None for anything else."""
    name = path.lower().removesuffix(".gz").removesuffix(".xz")
    return next((kind for kind in KINDS if name.endswith(kind)), None)


def sources(paths: str | Path | Sequence[str | Path]) -> list[str]:
    """The files that `paths` mean, without repetition, in the order given; folders and globs in sorted order.

    Args:
        paths: one or several of: a file, a folder (searched at every depth for .txt, .jsonl, .csv, .parquet,
            also with .gz or .xz behind), a glob such as "corpus/*.txt.xz", or "-" for lines of text on stdin.

    Raises:
        FileNotFoundError: one of them names nothing.
        ValueError: a file of a kind that cannot be read, or nothing was named at all.
    """
    named = [str(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    if not named:
        raise ValueError("no input was named: give files, folders, globs, or - for stdin")
    found: dict[str, None] = {}
    for name in named:
        found.update(dict.fromkeys(_files(name)))
    return list(found)


def _files(name: str) -> list[str]:
    if name == STDIN:
        return [STDIN]
    if os.path.isdir(name):
        inside = sorted(str(p) for p in Path(name).rglob("*") if p.is_file() and kind_of(p.name))
        if not inside:
            raise FileNotFoundError(
                f"the folder {name} holds no {', '.join(KINDS)} file (nor one with .gz or .xz behind)"
            )
        return inside
    if os.path.exists(name):
        if kind_of(name) is None:
            raise ValueError(
                f"{name}: cannot read this kind of file; it must end in {', '.join(KINDS)}, or these + .gz or .xz"
            )
        return [name]
    matched = sorted(p for p in glob.glob(name, recursive=True) if os.path.isfile(p) and kind_of(p))
    if not matched:
        raise FileNotFoundError(f"{name}: no such file or folder, and as a glob it matches no file that can be read")
    return matched
