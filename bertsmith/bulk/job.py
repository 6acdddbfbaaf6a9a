"""What a job is, and how far it has come, on the disk: `_about.json` in the folder of its shards.

A shard is done when it is listed there, which is written after the shard itself: killed at any moment, a job loses the shard
that it was at. What is listed depends on the input and the settings alone, so that the end is the same, byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bertsmith.bulk.shards import Form, join
from bertsmith.bulk.work import Done
from bertsmith.differences import differences
from bertsmith.files import alone, sweep, write_atomic

ABOUT = "_about.json"
COUNTS = ("rows", "empty", "cut")


@dataclass
class Job:
    """A job that goes into `out`: a folder of shards, or one parquet file, whose shards lie beside it until it is whole.

    Attributes:
        what: all that decides what comes out, plain JSON.
        shards: {number: {"rows", "empty", "cut"}} of those that are done.
    """

    out: Path
    what: dict[str, Any]
    form: Form
    shards: dict[int, dict[str, int]] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        return is_file(self.out)

    @property
    def folder(self) -> Path:
        """Where the shards are."""
        return self.out.with_name(f"{self.out.name}.shards") if self.alone else self.out

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take up what is there of this job; inside, no other process works on it.

        Raises ValueError, saying what differs, if it is another job's; if it is no job's at all; if another process is at it.
        """
        self._refuse_others()
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder / f"{ABOUT}.lock"):
            sweep(self.folder)
            self._take_up()
            yield

    def _take_up(self) -> None:
        held = _read(self.folder / ABOUT)
        if held is not None:
            self._compare(held)
            listed = {int(name): counts for name, counts in held["shards"].items()}
            self.shards = {n: c for n, c in listed.items() if all(f.is_file() for f in self.form.files(self.folder, n))}
        self._write()

    def is_whole(self) -> bool:
        """Whether all was done by an earlier run, into one file. ValueError if that was another job's."""
        held = _read(Path(f"{self.out}.json")) if self.alone and self.out.exists() else None
        if held is None or self.folder.exists():
            return False
        self._compare(held)
        self.shards = {0: {name: held[name] for name in COUNTS}}
        return True

    def add(self, done: Done) -> None:
        """A shard is on the disk."""
        self.shards[done.shard] = {name: asdict(done)[name] for name in COUNTS}
        self._write()

    def finish(self) -> None:
        """Take away what workers that died have left; join the shards, if one file was asked for."""
        sweep(self.folder)
        if self.alone:
            whole = self.folder / "whole"
            join([self.form.files(self.folder, n)[0] for n in sorted(self.shards)], whole)
            whole.replace(self.out)
            write_atomic(f"{self.out}.json", json.dumps(self.what | self.counts(), indent=1))
            shutil.rmtree(self.folder)

    def counts(self) -> dict[str, int]:
        """{"rows", "empty", "cut"} of all shards that are done."""
        return {name: sum(one[name] for one in self.shards.values()) for name in COUNTS}

    def _refuse_others(self) -> None:
        if self.alone and self.form.format != "parquet":
            raise ValueError(f"{self.out} holds parquet; say a folder for shards of {self.form.format}")
        ours = (self.folder / ABOUT).exists()
        if self.alone and self.out.exists() and not ours:
            raise ValueError(f"{self.out} is there, and not from this command; say another name, or remove it")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; say a folder, or a name that ends in .parquet")
        if self.folder.is_dir() and not ours and any(not f.name.startswith(ABOUT) for f in self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds other files, and no {ABOUT}; say a folder that is new or empty")

    def _compare(self, held: dict[str, Any]) -> None:
        if found := differences(held, json.loads(json.dumps(self.what))):
            raise ValueError(
                f"{self.out} is of another job, and cannot be gone on with: {'; '.join(found)}. "
                "Say what was said then, or another place for the vectors"
            )

    def _write(self) -> None:
        shards = {f"{n:06}": self.shards[n] for n in sorted(self.shards)}
        write_atomic(self.folder / ABOUT, json.dumps(self.what | self.counts() | {"shards": shards}, indent=1))


def is_file(out: Path) -> bool:
    """Whether one file is asked for. ValueError for a kind of table that vectors are not written to."""
    if out.suffix in (".csv", ".tsv", ".jsonl", ".json", ".txt", ".npy"):
        raise ValueError(f"{out}: shards of vectors go into a folder, or into one file that ends in .parquet")
    return out.suffix == ".parquet"


def _read(path: Path) -> dict[str, Any] | None:
    """None if there is no such file. ValueError for a damaged one."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; remove it, and what it is about, to begin anew") from error
