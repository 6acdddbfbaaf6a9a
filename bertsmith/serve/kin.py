"""Models of one base: one queue, one thread, and batches that hold texts for any of them.

Such a batch goes through the base's kernel once, every text with what its adapter adds to the products there (see
`engine.adopt`); then each model's head reads its own rows. Models that the base cannot run, whatever the reason, are asked one
after the other for their part of the batch.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bertsmith.coding import Row
from bertsmith.engine.guest import Guest
from bertsmith.engine.plan import Unsupported
from bertsmith.linear import tensors
from bertsmith.model import Model
from bertsmith.serve.batching import Job, Worker
from bertsmith.serve.metrics import Meter
from bertsmith.serve.models import Limits, Read, Served, What

SHARED = ("encode", "predict", "pairs")  # what texts can be asked in a batch with others
Asked = tuple[Served, What, Any]  # one item of a batch


class Kin:
    """Models whose weights are partly the same arrays, and the thread that runs them.

    Args:
        members: the base first. limits, meter: the server's.
    """

    def __init__(self, members: Sequence[Served], limits: Limits, meter: Meter):
        self.host, self.members = members[0], members
        self.numbers: dict[str, int] = {}  # of those that the host runs, as its engine knows them
        self.joining, self.joined = threading.Lock(), False
        self.worker = Worker(self.host.name, self.run, limits.batch, limits.waiting, meter)

    def submit(self, served: Served, what: What, read: Read) -> Job:
        """Put what a request asks of one of the models into the queue. Raises Full or Closed."""
        key = ("shared",) if len(self.members) > 1 and what[0] in SHARED else (served.name, *what)
        return self.worker.submit(key, [(served, what, item) for item in read.items], read.tokens)

    def join(self) -> None:
        """Let the host run the others where it can. It takes as long as packing weights does; the second time nothing."""
        with self.joining:
            if self.joined:
                return
            self.joined = True
            for one in self.members[1:]:
                try:
                    engine = Guest(one.model.engine, self.host.model.engine, one.precision)
                except Unsupported as error:
                    one.alone = f"it does not share the products of {self.host.name!r}: {error}"
                    continue
                one.model.run_by(engine)
                self.numbers |= {self.host.name: -1, one.name: engine.number}

    def run(self, key: Any, items: list[Asked]) -> list[Any]:
        """The answers to what was read of items, in their order."""
        self.join()
        parts: dict[tuple[str, What], list[int]] = {}
        for i, (served, what, _) in enumerate(items):
            parts.setdefault((served.name, what), []).append(i)
        together = [name for name, _ in parts if name in self.numbers]
        found: dict[int, Any] = {}
        if len(together) > 1:
            index = [i for i, (served, _, _) in enumerate(items) if served.name in self.numbers]
            found |= zip(index, self._at_once([items[i] for i in index]), strict=True)
        for index in parts.values():
            if index[0] not in found:
                served, what, _ = items[index[0]]
                found |= zip(index, served.run(what, [items[i][2] for i in index]), strict=True)
        return [found[i] for i in range(len(items))]

    @torch.inference_mode()
    def _at_once(self, items: list[Asked]) -> list[Any]:
        """The answers to items of models that the host runs, by one pass through its kernel."""
        model, precision = self.host.model, self.host.precision
        rows: list[Row] = []
        for i, (_, what, item) in enumerate(items):
            rows += [Row(i, [item[1]])] if what[0] == "encode" else [replace(row, example=i) for row in item]
        kept: dict[int, dict[int, Any]] = {}
        for index, token_BT, layout in model.batches(rows):
            numbers = np.array([self.numbers[items[rows[r].example][0].name] for r in index], np.int32)
            x_BTD = model.engine.states(token_BT, layout, precision, numbers)
            places: dict[tuple[str, What], list[int]] = {}
            for b, r in enumerate(index):
                served, what, _ = items[rows[r].example]
                places.setdefault((served.name, what), []).append(b)
            for mine in places.values():
                now, which_R = [rows[index[b]] for b in mine], torch.tensor(mine)
                served, what, _ = items[now[0].example]
                read = served.read_states(what, now, x_BTD[which_R], layout.rows(which_R))
                for b, one in zip(mine, read, strict=True):
                    kept.setdefault(rows[index[b]].example, {})[index[b]] = one
        return [served.answer(what, [kept[i][r] for r in sorted(kept[i])]) for i, (served, what, _) in enumerate(items)]


def families(models: dict[str, Model]) -> list[list[str]]:
    """The names of models that share weights in memory, one list a base, the least changed of it first."""
    found: list[tuple[set[int], list[str]]] = []
    for name in sorted(models, key=lambda name: len(models[name].encoder.changes)):
        places = {t.data_ptr() for t in tensors(models[name].encoder).values()}
        for theirs, names in found:
            if theirs & places and models[names[0]].spec == models[name].spec:
                names.append(name)
                break
        else:
            found.append((places, [name]))
    return [names for _, names in found]
