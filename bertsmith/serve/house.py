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
from bertsmith.serve.metrics import Meter
from bertsmith.serve.models import Limits, Served


class House:
    """All that is served.

    Args:
        models: by the name that requests call them; the first is meant where none is named.
    """

    def __init__(self, models: dict[str, Model], precision: Precision, limits: Limits):
        if not models:
            raise ValueError("nothing to serve: name a model's directory")
        self.limits, self.meter, self.born = limits, Meter(), int(time.time())
        self.models = {name: Served(name, model, precision, limits, self.meter) for name, model in models.items()}

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
        for served in self.models.values():
            served.worker.close()

    async def ask(
        self, request: Request, served: Served, what: tuple[Any, ...], items: Sequence[Any], cut: bool = True
    ) -> tuple[list[Any], int]:
        """(the answers to items, how many tokens were read for them).

        Args:
            what: see `Served.run`.
            cut: whether a text that is longer than the model reads may be cut. Refused if not, and there is one.
        """
        if len(items) > self.limits.texts:
            raise Refused(
                413, f"{len(items)} texts in one request; {self.limits.texts} is the most: send them in several"
            )
        tokens, longest = await served.count(items), served.model.max_length
        if sum(tokens) > self.limits.tokens:
            raise Refused(
                413, f"{sum(tokens)} tokens in one request; {self.limits.tokens} is the most: send fewer texts"
            )
        if not cut and (long := [i for i, n in enumerate(tokens) if n > longest]):
            raise Refused(
                413, f"text {long[0]} has {tokens[long[0]]} tokens, more than {longest}: shorten it, or truncate=true"
            )
        if served.kind not in ("token-classification", "question-answering"):  # these read all of a text, in windows
            tokens = [min(n, longest) for n in tokens]
        try:
            job = served.worker.submit(what, items, tokens)
        except Full as error:
            raise Refused(429, str(error), {"Retry-After": str(error.seconds)}) from None
        except Closed as error:
            raise Refused(503, str(error), {"Retry-After": "1"}) from None
        return await self._answers(request, served, job), sum(tokens)

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
                served.worker.drop(job)
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
