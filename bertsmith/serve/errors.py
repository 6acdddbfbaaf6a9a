"""Refusals: every error is a JSON body that says what was wrong and what to do, in the shape that the path's clients read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

MOST = 400  # characters of what a client sent that are said back to it

# status -> what text-embeddings-inference and OpenAI call it
KINDS = {
    400: ("validation", "invalid_request_error"),
    401: ("authentication", "authentication_error"),
    404: ("not_found", "not_found_error"),
    405: ("validation", "invalid_request_error"),
    413: ("validation", "invalid_request_error"),
    422: ("validation", "invalid_request_error"),
    429: ("overloaded", "rate_limit_error"),
    499: ("gone", "client_error"),
    500: ("backend", "server_error"),
    503: ("unhealthy", "server_error"),
    504: ("timeout", "server_error"),
}


class Refused(Exception):
    """An answer that is no answer: a status, what to do about it, and headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as clients of a path read it: {"error": {"message", "type", ...}} below /v1, as OpenAI has it; elsewhere
    {"error": message, "error_type"}, as text-embeddings-inference has it."""
    theirs, openai = KINDS.get(status, KINDS[400] if status < 500 else KINDS[500])
    body: dict[str, Any] = {"error": message, "error_type": theirs}
    if path.startswith("/v1/"):
        body = {"error": {"message": message, "type": openai, "param": None, "code": str(status)}}
    # json and not orjson: what a client sent, and is said back to it, may be no valid Unicode
    return Response(json.dumps(body), status, dict(headers or {}), "application/json")


def explained(faults: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic found wrong with a body, as a sentence."""
    said = [f"{'.'.join(str(x) for x in one['loc']) or 'body'}: {one['msg']}" for one in faults]
    return f"{'; '.join(dict.fromkeys(said))[:MOST]}. GET /openapi.json says what this path takes"
