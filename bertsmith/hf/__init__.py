"""Other libraries' checkpoints: one file per family, with a weight table that is read in both directions.

A row is (ours, theirs); `{i}` stands for the layer. A row may end in a pair of functions (to ours, to theirs).
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

Row = tuple[str, str]


def _rows(rows: Sequence[Row], depth: int) -> Iterator[Row]:
    for ours, theirs in rows:
        for i in range(depth) if "{i}" in theirs else [0]:
            yield ours.replace("{i}", str(i)), theirs.replace("{i}", str(i))


def to_ours(rows: Sequence[Row], depth: int, theirs: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(what the table knows, under our names; what it does not, under theirs)."""
    left = dict(theirs)
    return {ours: left.pop(name) for ours, name in _rows(rows, depth) if name in left}, left


def to_theirs(rows: Sequence[Row], depth: int, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under their names. Raises KeyError for what the other format cannot hold."""
    names = dict(_rows(rows, depth))
    if left := sorted(ours.keys() - names.keys()):
        raise KeyError(f"the stock class cannot hold {left[:5]}")
    return {names[k]: v for k, v in ours.items()}
