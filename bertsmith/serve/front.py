"""What stands before every request: the key, the size of the body, the clock; and, when the server stops, the farewell."""

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from bertsmith.serve.errors import response
from bertsmith.serve.house import House

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
OPEN = (("GET", "/health"), ("GET", "/"))  # for these no key is asked


class Front:
    """An ASGI application around another.

    Attributes:
        stopping: no request is refused for it, but every answer closes its connection, so that clients go elsewhere.
        paths: those that are counted by name; all others are counted together.
    """

    def __init__(self, inner: Callable[[Scope, Receive, Send], Awaitable[None]], house: House, api_key: str):
        self.inner, self.house, self.key = inner, house, f"Bearer {api_key}".encode() if api_key else b""
        self.stopping = False
        self.paths: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def say(message: Scope) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.stopping:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, say)
            else:
                await self.inner(scope, self._limited(receive), say)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.house.meter.request(path, status, time.perf_counter() - begun)

    def _refusal(self, scope: Scope) -> Any:
        """The answer to a request that is refused by its headers alone, or None."""
        headers, path = dict(scope["headers"]), scope["path"]
        given = headers.get(b"authorization", b"")
        if self.key and (scope["method"], path) not in OPEN and not hmac.compare_digest(given, self.key):
            said = "this server asks for its key: send the header Authorization: Bearer KEY"
            return response(path, 401, said, {"WWW-Authenticate": "Bearer"})
        size = headers.get(b"content-length", b"0")
        if size.isdigit() and int(size) > self.house.limits.body:
            return response(path, 413, self._too_large())
        return None

    def _limited(self, receive: Receive) -> Receive:
        """The body of a request that does not say its size is cut off where it becomes too large."""
        read = 0

        async def limited() -> Scope:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.house.limits.body:
                raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return (
            f"the body has more than {self.house.limits.body} bytes, the most there may be: send it in several requests"
        )
