"""Work of many requests in batches that fit a budget of tokens, on one thread.

There is no wait for a batch to fill: while one is worked on, the next gathers. Of the jobs that wait and want the same, each
gets an equal share of the budget, and what is then left goes to them in their order; so a request of a thousand texts does
not hold up one of a single text that came after it.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertsmith.serve.metrics import Meter

WAIT = 60  # seconds that a refused client is told to wait, at the most
LEARN = 0.2  # how much the last batch counts in the measured rate


class Full(Exception):
    """The queue is full. `seconds`: when to come again."""

    def __init__(self, seconds: int):
        super().__init__(f"too much waits already: come again in {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The server stops, and takes nothing more."""


@dataclass(eq=False)
class Job:
    """What one request wants of one model.

    Attributes:
        what: jobs for which it is equal may stand in one batch.
        items: what is worked on, one by one as far as anybody can tell.
        tokens: of each item.
        done: gets the answers, in the order of the items, or an exception.
        taken, missing: items that were given to a batch; answers that are not there yet.
    """

    what: Hashable
    items: Sequence[Any]
    tokens: Sequence[int]
    done: "asyncio.Future[list[Any]]"
    answers: list[Any] = field(default_factory=list)
    taken: int = 0
    missing: int = 0

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.items)
        self.missing = len(self.items)

    def waiting_tokens(self) -> int:
        return sum(self.tokens[self.taken :])


Batch = list[tuple[Job, int]]  # items, as places in jobs that want the same


class Worker:
    """One thread that runs batches of jobs, and the queue before it.

    Args:
        name: of the thread and in the metrics.
        run: (what, items) -> answers. A ValueError is the fault of an item and is told to its client; anything else is ours.
        budget: tokens of a batch. An item that has more stands alone.
        most: tokens that may wait. A job for which there is no room is refused, except that an empty queue takes any.
    """

    def __init__(self, name: str, run: Callable[[Any, list[Any]], list[Any]], budget: int, most: int, meter: Meter):
        self.name, self.run, self.budget, self.most, self.meter = name, run, budget, most, meter
        self.waiting: list[Job] = []
        self.tokens = 0  # of all items that wait
        self.rate = 0.0  # tokens a second
        self.closed = False
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self._work, name=f"bertsmith-{name}", daemon=True)
        self.thread.start()

    def submit(self, what: Hashable, items: Sequence[Any], tokens: Sequence[int]) -> Job:
        """Put a job into the queue; to be called on an event loop, which hears of its end. Raises Full or Closed."""
        job = Job(what, items, tokens, asyncio.get_running_loop().create_future())
        if not items:
            job.done.set_result([])
            return job
        with self.news:
            if self.closed:
                raise Closed("the server stops: ask another, or come again when it is back")
            if self.tokens and self.tokens + sum(tokens) > self.most:
                raise Full(self._patience())
            self.waiting.append(job)
            self.tokens += sum(tokens)
            self.news.notify()
        return job

    def drop(self, job: Job) -> None:
        """Forget what is left of a job: nobody waits for it any more."""
        with self.news:
            if job in self.waiting:
                self.waiting.remove(job)
                self.tokens -= job.waiting_tokens()

    def close(self) -> None:
        """Take nothing more, answer what was taken, and end the thread."""
        with self.news:
            self.closed = True
            self.news.notify()
        self.thread.join()

    def _patience(self) -> int:
        return max(1, min(WAIT, math.ceil(self.tokens / self.rate))) if self.rate else 1

    def _work(self) -> None:
        while self._go_on():
            pass

    def _go_on(self) -> bool:
        """Wait for work and do a batch of it; False if none will come. Nothing of a batch is held while the next is awaited."""
        with self.news:
            while not self.waiting and not self.closed:
                self.news.wait()
            if not self.waiting:
                return False
            batch = self._take()
        self._answer(batch)
        return True

    def _take(self) -> Batch:
        """The next batch, by the rule at the top of this file. What wants something else moves to the front."""
        what = self.waiting[0].what
        same = [job for job in self.waiting if job.what == what]
        batch: Batch = []
        room = self.budget
        for share in (self.budget // len(same), self.budget):
            for job in same:
                used = 0
                while job.taken < len(job.items):
                    cost = job.tokens[job.taken]
                    if batch and (cost > room or used and used + cost > share):
                        break
                    batch.append((job, job.taken))
                    job.taken, used, room = job.taken + 1, used + cost, room - cost
        self.tokens -= sum(job.tokens[i] for job, i in batch)
        others = [job for job in self.waiting if job.what != what]
        self.waiting = others + [job for job in same if job.taken < len(job.items)]
        return batch

    def _answer(self, batch: Batch) -> None:
        """Run a batch and hand out its answers. One that fails is run again job by job, so that only the culprit's fails."""
        begun = time.perf_counter()
        jobs = list(dict.fromkeys(job for job, _ in batch))
        try:
            answers = self.run(jobs[0].what, [job.items[i] for job, i in batch])
        except Exception as error:  # whatever it was, the thread must go on and the clients must hear of it
            if len(jobs) == 1:
                self.drop(jobs[0])
                _tell(jobs, error)
                return
            for job in jobs:
                self._answer([(one, i) for one, i in batch if one is job])
            return
        seconds, tokens = time.perf_counter() - begun, sum(job.tokens[i] for job, i in batch)
        self.rate += (tokens / max(seconds, 1e-9) - self.rate) * (LEARN if self.rate else 1)
        self.meter.batch(self.name, len(batch), tokens, seconds)
        for (job, i), answer in zip(batch, answers, strict=True):
            job.answers[i] = answer
            job.missing -= 1
        _tell([job for job in jobs if not job.missing], None)


def _tell(jobs: list[Job], error: Exception | None) -> None:
    """Say on their event loops that jobs have ended: one call for all of a loop."""

    def end(mine: list[Job]) -> None:
        for job in mine:
            if job.done.done():  # it was cancelled: its client has gone
                continue
            if error is None:
                job.done.set_result(job.answers)
            else:
                job.done.set_exception(error)

    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        loops.setdefault(job.done.get_loop(), []).append(job)
    for loop, mine in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(end, mine)
