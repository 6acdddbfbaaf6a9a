"""The shards of a job as the rows of a Ray dataset: workers on one machine or on many, which share a file system.

A worker that dies is started again by Ray, and does its shard anew. Needs ray[data].
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.bulk.shards import Form
from bertsmith.bulk.source import Source
from bertsmith.bulk.work import Done, How, Worker
from bertsmith.files import PARTIAL
from bertsmith.model import load


def check() -> Any:
    """ray, with its datasets. Raises ImportError, saying what to install."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("work on Ray needs ray: pip install 'bertsmith[ray]'") from error
    return ray


def shards_on_ray(worker: Worker, todo: list[int], count: int) -> Iterator[Done]:
    """Each shard when it is on the disk, in any order; by `count` workers with a core each.

    Raises RuntimeError if a machine among them would not compute what this one says that it does.
    """
    ray = check()
    folder = worker.folder.absolute()
    model = folder / f"_model{PARTIAL}"
    worker.model.save(model)
    runtime = worker.model.engine.about(worker.how.precision)
    given = (model, worker.source.located(), worker.how, worker.form, folder, runtime)
    try:
        rows = ray.data.from_items([{"shard": n} for n in todo], override_num_blocks=len(todo))
        rows.context.enable_progress_bars = False  # there is one already
        done = rows.map_batches(
            _Remote, fn_constructor_args=given, batch_size=1, num_cpus=1, compute=ray.data.ActorPoolStrategy(size=count)
        )
        for row in done.iter_rows():
            yield Done(**row)
    finally:
        shutil.rmtree(model, ignore_errors=True)


class _Remote:
    """A worker in a process of its own."""

    def __init__(self, model: Path, source: Source, how: How, form: Form, folder: Path, runtime: dict[str, str]):
        self.worker = Worker(load(model), source, how, form, folder)
        mine = self.worker.model.engine.about(how.precision)
        if mine != runtime:
            raise RuntimeError(f"workers would not agree: this machine has {mine}, that of the job {runtime}")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """{"shard": [numbers]} -> the columns of what is `Done`."""
        found = [asdict(one) for one in self.worker.shards(batch["shard"].tolist()) if isinstance(one, Done)]
        return {name: [one[name] for one in found] for name in found[0]}
