"""The server under fault, in a process of its own: many requests, many connections, clients that vanish, the end in load.

BERTSMITH_REQUESTS says how many requests memory is measured over, 20,000 if it does not. `-s` shows the figures.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_serve import made

import bertsmith

resource = pytest.importorskip("resource", reason="memory and limits are read as Linux has them")
httpx = pytest.importorskip("httpx", reason="httpx is not installed (an extra of the tests)")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory and limits are read as Linux has them"),
]
REQUESTS = int(os.environ.get("BERTSMITH_REQUESTS", "20000"))
GROWTH = 8.0  # MB that a server may grow by once it is warm


class Started:
    """A server's process and where it listens."""

    def __init__(self, process, port):
        self.process, self.port, self.url = process, port, f"http://127.0.0.1:{port}"

    def memory(self):
        """MB that it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def metric(self, name):
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def started(folder, *words):
    """A tiny model, served."""
    made(None, length=256).save(folder / "plain")
    env = os.environ | {"PYTHONPATH": str(Path(bertsmith.__file__).parents[1])}
    command = [sys.executable, "-m", "bertsmith", "serve", str(folder / "plain"), "--port", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        line = process.stderr.readline()
        assert line.startswith("serving plain at http://127.0.0.1:"), line + process.stderr.read()
        try:
            yield Started(process, int(line.split()[3].rpartition(":")[2]))
        finally:
            process.kill()


def asked(path, body):
    """A request as it goes over the wire."""
    text = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


def whatever(rng):
    """(a request of random kind and length, its status)."""
    if rng.random() < 0.05:
        return asked("/embed", {"inputs": "w1 " * 300, "truncate": False}), 413
    if rng.random() < 0.05:
        return asked("/v1/attention", {"inputs": "w1 " * rng.randint(1, 40), "layer": rng.randint(1, 2)}), None
    texts = [" ".join(f"w{rng.randint(1, 50)}" for _ in range(rng.randint(0, 300))) for _ in range(rng.randint(0, 3))]
    return asked("/embed", {"inputs": texts}), 200


async def send(port, count, seed):
    """Send requests one after the other on a connection."""
    rng = random.Random(seed)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        text, status = whatever(rng)
        writer.write(text)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(size)
        assert int(head.split()[1]) == status or status is None
    writer.close()
    await writer.wait_closed()


def test_memory_is_flat_over_many_requests(tmp_path):
    async def load(port, count, seed):
        await asyncio.gather(*(send(port, count // 16, 16 * seed + i) for i in range(16)))

    with started(tmp_path) as server:
        asyncio.run(load(server.port, max(2000, REQUESTS // 10), 0))
        before, begun = server.memory(), time.perf_counter()
        asyncio.run(load(server.port, REQUESTS, 1))
        after, seconds = server.memory(), time.perf_counter() - begun
        print(f"\n{REQUESTS} requests in {seconds:.0f} s: {before:.1f} MB before, {after:.1f} MB after")
        assert after - before < GROWTH and server.metric("bertsmith_waiting_tokens{") == 0


def test_ten_thousand_idle_connections_or_as_many_as_may_be_open(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    try:
        with started(tmp_path) as server:
            before = server.memory()
            idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
            for line in idle[::2]:
                line.sendall(b"POST /embed HTTP/1.1\r\nHost: a\r\n")  # half a request, and nothing more
            times = []
            for _ in range(50):
                begun = time.perf_counter()
                assert httpx.post(f"{server.url}/embed", json={"inputs": "w1"}, timeout=30).status_code == 200
                times.append(1000 * (time.perf_counter() - begun))
            held = f"{before:.0f} MB before, {server.memory():.0f} MB with them"
            print(f"\n{count} idle connections: {held}; an answer in {sorted(times)[25]:.0f} ms, the median of 50")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0, "they do not keep it from stopping"
    finally:
        for line in idle:
            line.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_vanish_in_load_are_forgotten(tmp_path):
    async def ask(server):
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            body = {"inputs": ["w1 w2 w3"] * 20}
            staying = [asyncio.create_task(client.post("/embed", json=body)) for _ in range(40)]
            for _ in range(400):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(asked("/embed", {"inputs": ["w4 " * 200] * 20}))
                await writer.drain()
                writer.transport.abort()
            return await asyncio.gather(*staying)

    with started(tmp_path, "--batch-tokens", "64") as server:
        found = asyncio.run(ask(server))
        assert [one.status_code for one in found] == [200] * 40
        end = time.monotonic() + 60
        while server.metric("bertsmith_waiting_tokens{"):
            assert time.monotonic() < end, "work for nobody is still in the queue"
            time.sleep(0.05)
        print(f"\n400 clients vanished; {server.metric('bertsmith_abandoned_total{'):.0f} of them were in the queue")
        assert server.metric("bertsmith_abandoned_total{") > 0


def test_sigterm_in_load_loses_nothing(tmp_path):
    async def ask(server):
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            body = {"inputs": ["w1 w2 w3 w4 w5 w6 w7 w8"] * 200}
            asked = [asyncio.create_task(client.post("/embed", json=body)) for _ in range(10)]
            while "/embed" not in (await client.get("/metrics")).text:  # one of them is answered
                await asyncio.sleep(0.005)
            server.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*asked)

    # many small batches, so that there is still work when the signal comes
    with started(tmp_path, "--precision", "exact", "--batch-tokens", "40") as server:
        found = asyncio.run(ask(server))
        assert [one.status_code for one in found] == [200] * 10 and all(len(one.json()) == 200 for one in found)
        assert any(one.headers.get("connection") == "close" for one in found)
        assert server.process.wait(60) == 0
