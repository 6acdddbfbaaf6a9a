"""What every target hands back, and what it needs."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from bertsmith import __version__
from bertsmith.export.parity import Run


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        file: the name of the file or, of a directory for another library, "".
        runtime: the package by which `run` runs what was written.
        about: what else is known of it.
        batches: how many of the batches it is compared on, None: all.
    """

    file: str
    runtime: str
    run: Run
    about: dict[str, Any] = field(default_factory=dict)
    batches: int | None = None

    @property
    def checked_with(self) -> str:
        return f"{self.runtime} {__version__ if self.runtime == 'bertsmith' else version(self.runtime)}"


def needs(extra: str, packages: Sequence[str]) -> None:
    """Raises ImportError, saying what to install, where a package is absent."""
    if lacking := [name for name in packages if not installed(name)]:
        raise ImportError(f"this needs {' and '.join(lacking)}: pip install 'bertsmith[{extra}]'")


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
