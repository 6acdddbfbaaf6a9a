"""The application: all paths, what guards them, and how errors are said."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from bertsmith.engine import Precision
from bertsmith.model import Model
from bertsmith.serve import answers, bodies, embeddings
from bertsmith.serve.errors import Refused, explained, response
from bertsmith.serve.front import Front
from bertsmith.serve.house import House
from bertsmith.serve.metrics import CONTENT_TYPE
from bertsmith.serve.models import Limits
from bertsmith.serve.reply import reply

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": bodies.Error, "description": about}
    for status, about in {
        400: "It cannot be done, and why.",
        401: "The key is missing or wrong.",
        404: "There is no such model or path.",
        413: "More than a request may have.",
        422: "The body is not what this path takes.",
        429: "Too much waits already; Retry-After says when to come again.",
        503: "The server stops.",
        504: "It took too long.",
    }.items()
}


def make_app(
    models: dict[str, Model], precision: Precision = "default", limits: Limits | None = None, api_key: str = ""
) -> Front:
    """The server as an ASGI application.

    Args:
        models: by the name that requests call them; the first is meant where none is named.
        precision: of all answers (see `engine`).
        api_key: asked of every request but GET /health and GET /; none is asked if it is empty.
    """
    limits = limits or Limits()
    house = House(models, precision, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        house.close()

    app = FastAPI(
        title="bertsmith", lifespan=lifespan, docs_url=None, redoc_url=None, responses=REFUSALS, redirect_slashes=False
    )
    front = Front(app, house, api_key)
    app.include_router(embeddings.routes(house))
    app.include_router(answers.routes(house))
    _add_own(app, house, front)
    _add_errors(app)
    front.paths = frozenset(app.openapi()["paths"])
    return front


def _add_own(app: FastAPI, house: House, front: Front) -> None:
    page = files("bertsmith.serve").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, tags=["server"])
    async def look() -> HTMLResponse:
        """A page to try the models on."""
        return HTMLResponse(page)

    @app.get("/health", tags=["server"])
    async def health() -> Response:
        """Whether requests are taken."""
        if front.stopping:
            raise Refused(503, "the server stops: ask another")
        return reply({"status": "ok", "models": list(house.models)})

    @app.get("/metrics", response_class=PlainTextResponse, tags=["server"])
    async def metrics() -> Response:
        """Counters for Prometheus."""
        waiting = {kin.worker.name: kin.worker.tokens for kin in house.kin.values()}
        return Response(house.meter.text(waiting), media_type=CONTENT_TYPE)

    @app.get("/info", tags=["server"])
    async def info(model: bodies.ModelName = "") -> Response:
        """What is served, how exact it is and what runs it; about one model as text-embeddings-inference says it."""
        served, limits = house.find(model), house.limits
        theirs = {"feature-extraction": {"embedding": {"pooling": served.model.pooling}}}
        said = {"model_id": served.name, "model_type": theirs.get(served.kind, {"classifier": {}})}
        said |= {"max_input_length": served.model.max_length, "max_batch_tokens": limits.batch}
        said |= {"max_client_batch_size": limits.texts, "max_request_tokens": limits.tokens}
        return reply(said | {"models": house.about()})


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return response(request.url.path, error.status, error.message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return response(request.url.path, 422, explained(error.errors()))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if error.status_code == 400:
            said = "the body could not be read: send JSON, not nested more deeply than this path asks for"
        if error.status_code == 404:
            said = f"no such path; there are: {', '.join(sorted(app.openapi()['paths']))}"
        if error.status_code == 405:
            said = f"{request.method} is not for this path. GET /openapi.json says what is"
        return response(request.url.path, error.status_code, said, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return response(request.url.path, 500, f"a fault of the server ({type(error).__name__}): its log says more")
