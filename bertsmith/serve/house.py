"""From a request to its answers: which model, how much it is, the queue, and who has stopped waiting."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from bertsmith.engine import Precision
from bertsmith.model import Model
from bertsmith.serve.batching import Closed, Full, Job
from bertsmith.serve.errors import Refused
from bertsmith.serve.kin import Kin, families
from bertsmith.serve.metrics import Meter
from bertsmith.serve.models import Limits, Read, Served, What, as_text

LONG = 20_000  # characters from which texts are read on another thread


class House:
    """All that is served.

    Args:
        models: by the name that requests call them; the first is meant where none is named.
    """

    def __init__(self, models: dict[str, Model], precision: Precision, limits: Limits):
        if not models:
            raise ValueError("nothing to serve: name a model's directory")
        self.limits, self.meter, self.born = limits, Meter(), int(time.time())
        self.models = {name: Served(name, model, precision) for name, model in models.items()}
        kin = [Kin([self.models[name] for name in names], limits, self.meter) for names in families(models)]
        self.kin = {served.name: one for one in kin for served in one.members}

    def find(self, name: str | None) -> Served:
        """The model of a name. Refused, listing them, for an unknown one; a name is never taken for a path."""
        if not name:
            return next(iter(self.models.values()))
        if name not in self.models:
            there = ", ".join(map(repr, self.models))
            raise Refused(404, f"no model {name[:80]!r} is served here; there are: {there}")
        return self.models[name]

    def close(self) -> None:
        """Answer what was taken, and end all threads."""
        for kin in set(self.kin.values()):
            kin.worker.close()

    def warm(self) -> None:
        """Ask every model once, so that what is decided at the first use is decided before anybody waits."""
        for name, served in self.models.items():
            self.kin[name].join()
            served.model.encode(["a b c"], precision=served.precision)

    def about(self) -> list[dict[str, Any]]:
        """What is said of every model at /info."""
        found = []
        for name, served in self.models.items():
            self.kin[name].join()
            found.append(served.about() | {"waiting_tokens": self.kin[name].worker.tokens})
        return found

    async def ask(
        self, request: Request, served: Served, what: What, items: Sequence[Any], cut: bool = True
    ) -> tuple[list[Any], int]:
        """(the answers to items, how many tokens were read for them).

        Args:
            what: see `Served.read`.
            cut: whether a text that is longer than the model reads may be cut. Refused if not, and there is one.
        """
        if len(items) > self.limits.texts:
            raise Refused(
                413, f"{len(items)} texts in one request; {self.limits.texts} is the most: send them in several"
            )
        read = await self._read(served, what, items, cut)
        try:
            job = self.kin[served.name].submit(served, what, read)
        except Full as error:
            raise Refused(429, str(error), {"Retry-After": str(error.seconds)}) from None
        except Closed as error:
            raise Refused(503, str(error), {"Retry-After": "1"}) from None
        return await self._answers(request, served, job), read.total

    async def _read(self, served: Served, what: What, items: Sequence[Any], cut: bool) -> Read:
        """What is asked about, as the model takes it; long texts on another thread, so that others are served meanwhile.

        Refused, if they cannot be read, or have too many tokens; such as may have are counted before more is done with them.
        """
        if not items:
            return Read([], [], 0)
        size = sum(len(as_text(item)) for item in items)
        if size > self.limits.tokens:
            self._check(sum(await asyncio.to_thread(served.count, items)))
        try:
            if size < LONG:
                read = served.read(what, items, cut)
            else:
                read = await asyncio.to_thread(served.read, what, items, cut)
        except ValueError as error:
            said = " ".join(str(error).split()).replace("on_long='truncate'", "truncate=true")
            raise Refused(400 if cut else 413, said) from None
        self._check(read.total)
        return read

    def _check(self, tokens: int) -> None:
        if tokens > self.limits.tokens:
            raise Refused(413, f"{tokens} tokens in one request; {self.limits.tokens} is the most: send fewer texts")

    async def _answers(self, request: Request, served: Served, job: Job) -> list[Any]:
        """Wait for a job: until it is done, its time is up, or its client has gone, when its work is forgotten."""
        gone = asyncio.ensure_future(
            request.receive()
        )  # the body has been read: what comes is the end of the connection
        try:
            await asyncio.wait({job.done, gone}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not job.done.done():
                job.done.cancel()
                self.kin[served.name].worker.drop(job)
                self.meter.left(served.name)
        if job.done.cancelled():
            if gone.done() and not gone.cancelled():
                raise Refused(499, "the client closed the connection")
            seconds = f"{self.limits.seconds:g} s"
            raise Refused(504, f"no answer within {seconds}: send fewer texts at a time, or fewer requests at once")
        error = job.done.exception()
        if isinstance(error, ValueError):
            raise Refused(400, " ".join(str(error).split()))
        if error is not None:
            raise error
        return job.done.result()
