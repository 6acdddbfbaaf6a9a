"""Vectors of texts, in OpenAI's shape and in text-embeddings-inference's; and how like texts are."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from bertsmith.serve import bodies
from bertsmith.serve.errors import Refused
from bertsmith.serve.house import House
from bertsmith.serve.models import Served
from bertsmith.serve.reply import reply


async def vectors(
    house: House,
    request: Request,
    served: Served,
    texts: Sequence[str],
    normalize: bool = True,
    cut: bool = True,
    width: int | None = None,
) -> tuple[np.ndarray, int]:
    """(float32 [texts, D], tokens). `width`: what the client wants D to be; refused if it is not."""
    dim = served.model.encoder.dim
    if width not in (None, dim):
        raise Refused(
            400, f"the vectors of {served.name!r} have {dim} dimensions and are not shortened: leave them out"
        )
    found, tokens = await house.ask(request, served, ("encode",), texts, cut)
    vector_ND = np.stack(found) if found else np.zeros((0, dim), np.float32)
    if normalize:
        vector_ND = vector_ND / np.maximum(np.linalg.norm(vector_ND, axis=1, keepdims=True), 1e-12)
    return vector_ND, tokens


async def similarity(house: House, request: Request, body: bodies.Similarity, model: str) -> Response:
    """The cosine of each of some sentences to one."""
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    vector_ND, _ = await vectors(house, request, house.find(body.model or model), texts, cut=body.truncate)
    return reply(vector_ND[1:] @ vector_ND[0])


async def embed(house: House, request: Request, body: bodies.Embed, model: str) -> Response:
    """A vector for each text, as lists."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    served = house.find(body.model or model)
    vector_ND, _ = await vectors(house, request, served, texts, body.normalize, body.truncate, body.dimensions)
    return reply(vector_ND)


def routes(house: House) -> APIRouter:
    router = APIRouter(tags=["embeddings"])

    @router.post("/v1/embeddings", response_model=bodies.EmbeddingsAnswer)
    async def openai(request: Request, body: bodies.Embeddings) -> Response:
        """Embeddings as OpenAI's API gives them, each one long."""
        served = house.find(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        vector_ND, tokens = await vectors(house, request, served, _of_strings(texts), width=body.dimensions)
        rows: list[Any] = list(vector_ND)
        if body.encoding_format == "base64":
            rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vector_ND]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return reply({"object": "list", "data": data, "model": served.name, "usage": usage})

    @router.get("/v1/models")
    async def models() -> Response:
        """What is served, as OpenAI's API lists it."""
        about = {"object": "model", "created": house.born, "owned_by": "bertsmith"}
        return reply({"object": "list", "data": [{"id": name} | about for name in house.models]})

    @router.post("/embed", response_model=list[list[float]])
    @router.post("/feature-extraction", response_model=list[list[float]])
    async def embeddings(request: Request, body: bodies.Embed, model: bodies.ModelName = "") -> Response:
        """A vector for each text, each one long if not said otherwise."""
        return await embed(house, request, body, model)

    @router.post("/similarity", response_model=list[float])
    @router.post("/sentence-similarity", response_model=list[float])
    async def similarities(request: Request, body: bodies.Similarity, model: bodies.ModelName = "") -> Response:
        """The cosine of each of some sentences to one."""
        return await similarity(house, request, body, model)

    @router.post("/rerank", response_model=list[bodies.Ranked])
    async def rerank(request: Request, body: bodies.Rerank, model: bodies.ModelName = "") -> Response:
        """Texts by how well they fit a query, the best first: by a model of pairs that gives a number, or by cosines."""
        served = house.find(body.model or model)
        score_N = await _fit(house, request, served, body)
        order = np.argsort(-score_N, kind="stable")
        ranked = [{"index": int(i), "score": float(score_N[i])} for i in order]
        if body.return_text:
            ranked = [one | {"text": body.texts[one["index"]]} for one in ranked]
        return reply(ranked)

    return router


async def _fit(house: House, request: Request, served: Served, body: bodies.Rerank) -> np.ndarray:
    """How well each text fits the query, [texts]."""
    task = served.model.task
    if task is None:
        vector_ND, _ = await vectors(house, request, served, [body.query, *body.texts], cut=body.truncate)
        return vector_ND[1:] @ vector_ND[0]
    if task.kind != "regression":
        there = "a model without a task (by cosines) or one of pairs that gives a number (regression)"
        raise Refused(400, f"the model {served.name!r} does {served.kind}: rerank takes {there}")
    pairs = [(body.query, text) for text in body.texts]
    found, _ = await house.ask(request, served, ("pairs",), pairs, body.truncate)
    number_N = np.array([one.label for one in found], np.float64)
    return number_N if body.raw_scores else 1 / (1 + np.exp(-number_N))


def _of_strings(texts: Sequence[Any]) -> list[str]:
    """The same. Refused, if they are numbers of tokens."""
    if not all(isinstance(text, str) for text in texts):
        raise Refused(
            400,
            "input has numbers of tokens, and these models have vocabularies of their own: send texts "
            "(in LangChain: check_embedding_ctx_length=False)",
        )
    return list(texts)
