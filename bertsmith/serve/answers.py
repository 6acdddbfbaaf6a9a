"""What models with a head say: classes, tags, answers, masks; in the shapes of Hugging Face's API and of TEI's /predict."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from bertsmith.examine import plain
from bertsmith.model import Filled
from bertsmith.serve import bodies, embeddings
from bertsmith.serve.errors import Refused
from bertsmith.serve.house import House
from bertsmith.serve.models import Served
from bertsmith.serve.reply import reply
from bertsmith.task import Prediction
from bertsmith.tokenizer.roles import roles

TOP = 5  # guesses for a mask where a request does not say


async def classify(house: House, request: Request, body: bodies.TextClassification, model: str) -> Response:
    """The labels of each text with their scores, the likeliest first."""
    served = house.find(body.model or model)
    served.need("text-classification")
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    found, _ = await house.ask(request, served, ("predict",), [(text, None) for text in texts])
    top = body.parameters.top_k if body.parameters else None
    return reply([_scored(served, one)[:top] for one in found])


async def tag(house: House, request: Request, body: bodies.TokenClassification, model: str) -> Response:
    """The labelled spans of a text, by characters; a list of them for a list of texts."""
    served = house.find(body.model or model)
    served.need("token-classification")
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    found, _ = await house.ask(request, served, ("predict",), [(text, None) for text in texts])
    said = [
        [
            {"entity_group": s.label, "word": text[s.start : s.end], "start": s.start, "end": s.end, "score": None}
            for s in one.label
        ]
        for text, one in zip(texts, found, strict=True)
    ]
    return reply(said[0] if isinstance(body.inputs, str) else said)


async def answer(house: House, request: Request, body: bodies.QuestionAnswering, model: str) -> Response:
    """Where in a text stands the answer to a question; "" if it is said to have none."""
    served = house.find(body.model or model)
    served.need("question-answering")
    items = [(body.inputs.question, body.inputs.context)]
    (found,), _ = await house.ask(request, served, ("pairs",), items)
    score = _logistic(found.scores["answer"] - found.scores["no answer"])
    return reply({"answer": found.label.text, "start": found.label.start, "end": found.label.end, "score": score})


async def fill(house: House, request: Request, body: bodies.FillMask, model: str) -> Response:
    """Guesses for the mask of a text, the likeliest first; a list of such for several masks, and for several texts."""
    served = house.find(body.model or model)
    if not served.speaks:
        raise Refused(400, f"the model {served.name!r} does {served.kind}, not fill-mask: ask another (GET /info)")
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    mask = roles(served.model.tokenizer)["mask"]
    if lost := [i for i, text in enumerate(texts) if mask not in text]:
        raise Refused(400, f"text {lost[0]} has no {mask}: put one where a word is to be guessed")
    top = body.parameters.top_k if body.parameters else None
    found, _ = await house.ask(request, served, ("fill", top or TOP), texts)
    said = [_guesses(served, text, mask, one) for text, one in zip(texts, found, strict=True)]
    return reply(said[0] if isinstance(body.inputs, str) else said)


How = tuple[type[BaseModel], Callable[[House, Request, Any, str], Awaitable[Response]]]
SIMILARITY: How = bodies.Similarity, embeddings.similarity
# what is asked of a model at "/": what it is there for
BY_KIND: dict[str, How] = {
    "feature-extraction": (bodies.Embed, embeddings.embed),
    "fill-mask": (bodies.FillMask, fill),
    "text-classification": (bodies.TextClassification, classify),
    "token-classification": (bodies.TokenClassification, tag),
    "question-answering": (bodies.QuestionAnswering, answer),
}


def routes(house: House) -> APIRouter:
    router = APIRouter(tags=["answers"])

    @router.post("/text-classification", response_model=list[list[bodies.Scored]])
    async def classes(request: Request, body: bodies.TextClassification, model: bodies.ModelName = "") -> Response:
        """The labels of each text with their scores, the likeliest first."""
        return await classify(house, request, body, model)

    @router.post("/token-classification", response_model=list[bodies.Entity] | list[list[bodies.Entity]])
    async def entities(request: Request, body: bodies.TokenClassification, model: bodies.ModelName = "") -> Response:
        """Labelled spans; start and end count characters (Unicode code points), and the end is exclusive."""
        return await tag(house, request, body, model)

    @router.post("/question-answering", response_model=bodies.Found)
    async def question(request: Request, body: bodies.QuestionAnswering, model: bodies.ModelName = "") -> Response:
        """The answer to a question, as it stands in a text."""
        return await answer(house, request, body, model)

    @router.post("/fill-mask", response_model=list[bodies.Filled] | list[list[bodies.Filled]] | list[Any])
    async def masks(request: Request, body: bodies.FillMask, model: bodies.ModelName = "") -> Response:
        """The likeliest tokens for each mask."""
        return await fill(house, request, body, model)

    @router.post("/predict", response_model=list[bodies.Scored] | list[list[bodies.Scored]])
    async def predict(request: Request, body: bodies.Predict, model: bodies.ModelName = "") -> Response:
        """Labels with their scores: of one text or pair, or of a list of them."""
        served = house.find(body.model or model)
        served.need("text-classification")
        alone, given = _as_pairs(body.inputs)
        if len({second is None for _, second in given}) > 1:
            raise Refused(400, "texts and pairs of texts in one request: send them in two")
        what = "predict" if given and given[0][1] is None else "pairs"
        found, _ = await house.ask(request, served, (what,), given, body.truncate)
        said = [_scored(served, one) for one in found]
        return reply(said[0] if alone else said)

    @router.post("/v1/predict", response_model=list[bodies.Answered])
    async def predictions(request: Request, body: bodies.Answers) -> Response:
        """What `Model.predict` says, whatever the task: a label (spans and answers with their characters) and scores."""
        served = house.find(body.model)
        if served.model.task is None:
            raise Refused(
                400, f"the model {served.name!r} was not tuned for a task: ask another (GET /info lists them)"
            )
        if body.pairs is not None and len(body.pairs) != len(body.texts):
            raise Refused(400, f"{len(body.texts)} texts and {len(body.pairs)} pairs: each text needs its own")
        seconds = body.pairs or [None] * len(body.texts)
        items = list(zip(body.texts, seconds, strict=True))
        found, _ = await house.ask(request, served, ("pairs",) if body.pairs else ("predict",), items)
        return reply([plain(one, text) for text, one in zip(body.texts, found, strict=True)])

    @router.post("/v1/attention", response_model=bodies.Attended)
    async def attended(request: Request, body: bodies.Attention) -> Response:
        """How much each token of one short text reads of each other, by head, in one layer; rows add up to 1."""
        served = house.find(body.model)
        (found,), _ = await house.ask(request, served, ("attention", body.layer), [body.inputs])
        return reply(found)

    @router.post("/", response_model=Any)
    async def whatever(request: Request, body: dict[str, Any], model: bodies.ModelName = "") -> Response:
        """What the model is there for, {"inputs": ...}, as a client asks that was given no path (InferenceClient)."""
        said = body.get("model")
        served = house.find(said if isinstance(said, str) else model)
        how = BY_KIND.get(served.kind)
        if isinstance(body.get("inputs"), dict) and "source_sentence" in body["inputs"]:
            how = SIMILARITY
        if how is None:
            raise Refused(400, f"the model {served.name!r} does {served.kind}: POST /v1/predict asks it")
        shape, handler = how
        try:
            read = shape.model_validate(body)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None
        return await handler(house, request, read, model)

    return router


def _scored(served: Served, said: Prediction) -> list[dict[str, Any]]:
    """Labels with scores, the likeliest first; of a model that answers with a number, that number."""
    if not said.scores:
        return [{"label": served.model.labels[0] if served.model.labels else "LABEL_0", "score": said.label}]
    return [{"label": k, "score": v} for k, v in sorted(said.scores.items(), key=lambda one: -one[1])]


def _guesses(served: Served, text: str, mask: str, found: Filled) -> list[Any]:
    """Of one mask its guesses; of several a list of such."""
    parts = text.split(mask)
    said = []
    for number, guesses in enumerate(found.guesses, 1):
        before, behind = mask.join(parts[:number]), mask.join(parts[number:])
        said.append([
            {
                "score": guess.probability,
                "token": served.model.tokenizer.token_to_id(guess.token),
                "token_str": guess.token,
                "sequence": before + guess.token + behind,
            }
            for guess in guesses
        ])  # fmt: skip
    return said[0] if len(said) == 1 else said


def _as_pairs(inputs: str | list[str] | list[list[str]]) -> tuple[bool, list[tuple[str, str | None]]]:
    """(whether it is one, (text, its second text or None) of each)."""
    alone = isinstance(inputs, str) or not inputs or isinstance(inputs[0], str)
    rows = [inputs] if alone else inputs
    found: list[tuple[str, str | None]] = []
    for row in rows:
        one = [row] if isinstance(row, str) else list(row)
        if len(one) not in (1, 2):
            raise Refused(
                400, f"a text is [text], a pair [text, text]; got a list of {len(one)}: put each text into its own"
            )
        found.append((str(one[0]), str(one[1]) if len(one) == 2 else None))
    return alone, found


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
