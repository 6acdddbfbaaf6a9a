"""Batches made by worker processes, the same to the bit for any number of workers and any world size."""

import copy
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bertsmith.corpus.parent import die_with_parent
from bertsmith.data import Data
from bertsmith.draw import numpy_rng

Batch = dict[str, Any]
Corrupt = Callable[[Batch, list[np.random.Generator]], Batch | None]


def batches(
    data: Data, corrupt: Corrupt | None, seed: int, workers: int = 0, rank: int = 0, world: int = 1
) -> Generator[Batch, None, None]:
    """The batches of one rank, without end, from where `data` stands now; `data` itself is left as it is.

    Micro-batch number i goes to rank i % world: a global round is `world` micro-batches. Every batch carries
    `batch["state"]`, the state of `data` after the whole round it belongs to: `data.load` of it goes on behind it.

    Args:
        corrupt: called as `corrupt(batch, rngs)` with one generator a row, a function of (seed, global row number)
            alone; it returns the batch, or None if it changed it in place. Must be picklable if there are workers. None
            to leave batches as they are.
        seed: of the corruption.
        workers: processes; 0 makes the batches in this one. Workers end when this process ends, also by SIGKILL.
        rank, world: this process among those that train together.

    Raises:
        ValueError: no such rank, or a negative number of workers.
    """
    if not 0 <= rank < world or workers < 0:
        raise ValueError(
            f"rank {rank} of world {world} with {workers} workers: 0 <= rank < world and workers >= 0 must hold"
        )
    share = _Share(copy.deepcopy(data), corrupt, seed, rank, world)
    return _stream(share, workers)


def _stream(share: "_Share", workers: int) -> Generator[Batch, None, None]:
    """A generator, so that closing it, or dropping it, ends the workers."""
    if workers == 0:
        yield from share
    yield from DataLoader(share, batch_size=None, num_workers=workers, worker_init_fn=_begin, prefetch_factor=4)


class _Share(IterableDataset[Batch]):
    """What one worker of one rank makes: every worker plans all batches, and makes each `workers`-th of its rank's."""

    def __init__(self, data: Data, corrupt: Corrupt | None, seed: int, rank: int, world: int):
        self.data, self.corrupt, self.seed, self.rank, self.world = data, corrupt, seed, rank, world

    def __iter__(self) -> Generator[Batch, None, None]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        turn = 0
        while True:
            plans = [self.data.plan() for _ in range(self.world)]
            if turn % workers == worker:
                batch = self.data.make(plans[self.rank])
                if self.corrupt is not None:
                    rngs = [numpy_rng(self.seed, "corrupt", int(row)) for row in batch["row"]]
                    changed = self.corrupt(batch, rngs)
                    batch = batch if changed is None else changed
                batch["state"] = self.data.state()
                yield batch
            turn += 1


def _begin(worker: int) -> None:
    die_with_parent()
