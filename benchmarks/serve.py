"""A server under load: ours beside a plain one, with requests that come when they like.

    python benchmarks/serve.py MODEL --texts FILE [--seconds 10] [--precision default] [--bound MS] [--infinity PROGRAM]
        [--out FILE.json]

MODEL is a directory that both open; FILE has a text a line, of mixed lengths. Each request has one text and comes at a time of
its own (Poisson), whether the last one is answered or not, so that a server that falls behind is not spared: the time of an
answer counts from when its request was due. The rate rises by a quarter until the 99th percentile is above a bound or an
answer fails. First the plain server's capacity is sought (the highest rate at which its p99 is below a second), then its
p99 at half of that, which is the bound for both unless --bound says another. A rate that was not kept is tried again,
once. --infinity names the program `infinity_emb` of an environment that has it (benchmarks/peers/infinity.txt), which is put
to the same bound. The client is a process of its own; its share of the processor is said, for it takes from what the server
has.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from about import about, write

HERE = Path(__file__).resolve().parent
PLENTY = 1000.0  # ms: a p99 above this is a server that does not keep up
STEP = 1.25  # from one rate to the next
LEAST = 50  # requests of a measurement, for there to be a 99th percentile


@dataclass
class Server:
    """Where it takes texts, and what it calls them."""

    url: str
    key: str


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    """A server that answers at /health. RuntimeError if it ends before that."""
    env = os.environ | {"PYTHONPATH": f"{HERE.parent}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}
    process = subprocess.Popen(command, env=env)
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {' '.join(command)}")
        try:
            httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
            return process
        except (httpx.TransportError, httpx.HTTPStatusError):
            time.sleep(0.1)


@contextmanager
def served(command: list[str], path: str = "/embed", key: str = "inputs") -> Iterator[Server]:
    """The command, with PORT for a port, while it runs."""
    port = free_port()
    process = start([word.replace("PORT", str(port)) for word in command], port)
    try:
        yield Server(f"http://127.0.0.1:{port}{path}", key)
    finally:
        process.terminate()
        process.wait()


async def load(server: Server, texts: list[str], rate: float, seconds: float, seed: int) -> dict[str, float]:
    """Requests at `rate` a second for a while: {"rate", "p50", "p99" (ms from when they were due), "failed", "client": share
    of one core that the client took}."""
    rng, took, failed = random.Random(seed), [], 0
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=20, limits=limits) as client:

        async def one(text: str, due: float) -> None:
            nonlocal failed
            try:
                said = await client.post(server.url, json={server.key: [text]})
                failed += said.status_code != 200
            except httpx.TransportError:
                failed += 1
            took.append(1000 * (time.perf_counter() - due))

        await asyncio.gather(*(one(text, time.perf_counter()) for text in texts[:5]))
        took.clear()
        used, begun = _cpu(), time.perf_counter()
        due, running = begun, []
        while due < begun + seconds or len(running) < LEAST:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            running.append(asyncio.create_task(one(rng.choice(texts), due)))
            due += rng.expovariate(rate)
        await asyncio.gather(*running)
        share = (_cpu() - used) / (time.perf_counter() - begun)
    took.sort()
    return {
        "rate": round(rate, 1),
        "p50": round(took[len(took) // 2], 2),
        "p99": round(took[int(0.99 * (len(took) - 1))], 2),
        "failed": failed,
        "client": round(share, 2),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rise(server: Server, texts: list[str], bound: float, seconds: float, first: float) -> list[dict[str, float]]:
    """Measurements at rising rates, the last of them the first rate that failed, or whose p99 was above the bound, twice: once
    may be the machine's."""
    found, rate = [], first

    def measured() -> dict[str, float]:
        one = asyncio.run(load(server, texts, rate, seconds, len(found)))
        print(json.dumps(one), file=sys.stderr, flush=True)
        return one

    def kept(one: dict[str, float]) -> bool:
        return not one["failed"] and one["p99"] <= bound

    while True:
        one = measured()
        found.append(one if kept(one) else measured())
        if not kept(found[-1]):
            return found
        rate *= STEP


def highest(found: list[dict[str, float]]) -> float:
    """The highest rate that was kept, 0 if none was."""
    return found[-2]["rate"] if len(found) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    parser.add_argument("--first", type=float, default=10.0, help="the rate to begin with, requests a second")
    parser.add_argument("--precision", default="default")
    parser.add_argument("--bound", type=float, default=0.0, help="of the p99, in ms; by default the plain server's")
    parser.add_argument("--infinity", default="", metavar="PROGRAM")
    parser.add_argument("--out", default="")
    given = parser.parse_args()
    texts = [line for line in Path(given.texts).read_text(encoding="utf-8").splitlines() if line.strip()]

    python = sys.executable
    with served([python, str(HERE / "peers/plain_server.py"), given.model, "PORT"]) as server:
        capacity = rise(server, texts, PLENTY, given.seconds, given.first)
        half = highest(capacity) / 2
        if not half:
            raise RuntimeError(
                f"{given.first:g} requests a second are too many for the plain server: --first, a lower rate"
            )
        at_half = asyncio.run(load(server, texts, half, given.seconds, 0))
    bound = given.bound or at_half["p99"]
    plain: dict[str, Any] = {"capacity": highest(capacity), "at half": at_half, "rates": capacity}
    plain["highest"] = max((one["rate"] for one in [at_half, *capacity] if one["p99"] <= bound), default=0.0)

    def measured(command: list[str], *how: str) -> dict[str, Any]:
        with served(command, *how) as server:
            rates = rise(server, texts, bound, given.seconds, given.first)
        return {"highest": highest(rates), "rates": rates}

    ours = measured([python, "-m", "bertsmith", "serve", given.model, "--port", "PORT", "--precision", given.precision])
    other: dict[str, Any] = {}
    if given.infinity:
        command = [given.infinity, "v2", "--model-id", given.model, "--host", "127.0.0.1", "--port", "PORT"]
        other["infinity-emb"] = measured([*command, "--device", "cpu", "--engine", "torch"], "/embeddings", "input")
    times = round(ours["highest"] / plain["highest"], 2) if plain["highest"] else None
    result = {"bound of the p99, ms": bound, "plain": plain, "ours": ours} | other
    result |= {"times": times, "precision": given.precision}
    write(about() | result, given.out)


if __name__ == "__main__":
    main()
