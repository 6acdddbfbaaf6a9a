"""Models behind HTTP, in the shapes of OpenAI's embeddings, text-embeddings-inference and Hugging Face's inference API.

`make_app` is the application, `serve` runs it. A request becomes a job in the queue of its model (`house`, `batching`); one
thread a model takes what waits, in batches. No request names a path: models are known by the names that they were given.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch
import uvicorn

from bertsmith import adapter
from bertsmith.doctor import threads
from bertsmith.engine import Precision
from bertsmith.model import Model, load
from bertsmith.serve.app import make_app
from bertsmith.serve.front import Front
from bertsmith.serve.models import Limits

GRACE = 0.5  # seconds in which a server that stops still takes requests, and closes connections as it answers


def named(said: Sequence[str]) -> dict[str, str]:
    """{name: directory} of "directory" or "name=directory". Raises ValueError where two have one name."""
    found: dict[str, str] = {}
    for one in said:
        name, _, folder = one.rpartition("=")
        name = name or Path(folder).resolve().name
        if name in found:
            raise ValueError(f"two models would be called {name!r}: give one another name, {name}-2={folder}")
        found[name] = folder
    return found


def open_all(said: Sequence[str]) -> dict[str, Model]:
    """The models by name. An adapter is put onto that one of the others that it was tuned on, and shares its weights."""
    folders = named(said)
    whole = {name: load(folder) for name, folder in folders.items() if not (Path(folder) / adapter.FILES[0]).is_file()}
    return {name: whole[name] if name in whole else _on_its_base(folder, whole) for name, folder in folders.items()}


def _on_its_base(folder: str, models: dict[str, Model]) -> Model:
    """An adapter on its model. Raises ValueError, saying why of each, if it is of none of them."""
    why = []
    for name, model in models.items():
        try:
            return adapter.load(model, folder)
        except ValueError as error:
            why.append(f"; not {name!r}: {error}")
    raise ValueError(f"{folder} is an adapter: name the model that it was tuned on, too{''.join(why)}")


class Server(uvicorn.Server):
    """On SIGTERM and SIGINT: /health says so, answers close their connections, and after GRACE nothing more is taken.

    What was taken is answered. A second signal ends the grace at once.
    """

    def __init__(self, config: uvicorn.Config, front: Front):
        super().__init__(config)
        self.front = front

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        print(f"serving {', '.join(self.front.house.models)} at {where} (Ctrl+C stops it)", file=sys.stderr, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.front.stopping:
            super().handle_exit(sig, frame)
            return
        self.front.stopping = True
        later = threading.Timer(GRACE, super().handle_exit, (sig, frame))
        later.daemon = True
        later.start()


def serve(
    models: dict[str, Model],
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str = "",
    precision: Precision = "default",
    limits: Limits | None = None,
) -> None:
    """Serve models until a signal comes; see `make_app`. Each is asked once before anything is taken."""
    _leave_a_core()
    front = make_app(models, precision, limits, api_key)
    front.house.warm()
    _open_many_files()
    # once uvicorn has ended it raises the signal again, for whoever stood there before: that it was told to end is no failure
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    config = uvicorn.Config(front, host=host, port=port, log_level="warning", access_log=False, server_header=False)
    Server(config, front).run()


def _leave_a_core() -> None:
    """To who reads requests and writes answers: threads that wait for a text's next layer would take its time.
    $OMP_NUM_THREADS, where it is set, says how many threads a model has."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads() - 1)))
    torch.set_num_threads(threads())


def _open_many_files() -> None:
    """Each connection is an open file: allow as many as the system lets us ask for."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
