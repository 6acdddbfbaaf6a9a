"""What requests and answers look like. A field that is not known is refused, so that none is ignored in silence."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ModelName = Annotated[str, Query(alias="model", description="The model, by its name; the first if none is named.")]


def _whole(text: str) -> str:
    """The same. JSON can say halves of characters ("\\ud800"), which no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"no valid Unicode at character {error.start}: half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_whole)]
Texts = Text | list[Text]


class Body(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"additionalProperties": False})

    model: str | None = Field(None, description="The model, by its name; also as ?model=. The first if none is named.")


class Embeddings(Body):
    """OpenAI's embeddings."""

    input: Text | list[Text] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Only the width of the vectors themselves.")
    user: str | None = None


class Embed(Body):
    """text-embeddings-inference's /embed, and Hugging Face's feature extraction."""

    inputs: Texts
    normalize: bool = True
    truncate: bool = Field(True, description="Cut texts that are too long; else they are refused.")
    truncation_direction: Literal["right", "Right"] | None = None
    dimensions: int | None = Field(None, description="Only the width of the vectors themselves.")
    encoding_format: Literal["float"] | None = None


class Predict(Body):
    """text-embeddings-inference's /predict: a text, [a text], [a text, its second text], or a list of such lists."""

    inputs: Text | list[Text] | list[list[Text]]
    truncate: bool = True
    raw_scores: Literal[False] = False


class Rerank(Body):
    """text-embeddings-inference's /rerank."""

    query: Text
    texts: list[Text]
    raw_scores: bool = Field(False, description="The model's own number, and not its logistic; no matter for cosines.")
    return_text: bool = False
    truncate: bool = True
    truncation_direction: Literal["right", "Right"] | None = None


class Answers(Body):
    """What `Model.predict` takes: texts, and a second text (or a list of choices) for each where the task is about two."""

    texts: list[Text]
    pairs: list[Text] | list[list[Text]] | None = None


class Attention(Body):
    """Ours: which text, and which layer of the encoder."""

    inputs: Text
    layer: int = Field(1, ge=1, description="From 1, the first behind the embedding.")


class Nothing(BaseModel):
    """No parameters."""

    model_config = ConfigDict(extra="forbid")


class Compared(BaseModel):
    source_sentence: Text
    sentences: list[Text]


class Similarity(Body):
    """Hugging Face's sentence similarity."""

    inputs: Compared
    parameters: Nothing | None = None
    truncate: bool = True


class Top(BaseModel):
    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(None, ge=1, le=100)


class TextClassification(Body):
    """Hugging Face's text classification."""

    inputs: Texts
    parameters: Top | None = None


class FillMask(Body):
    """Hugging Face's fill-mask."""

    inputs: Texts
    parameters: Top | None = None


class Aggregation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    aggregation_strategy: Literal["simple", "first"] | None = None


class TokenClassification(Body):
    """Hugging Face's token classification: whole spans, as their tags say."""

    inputs: Texts
    parameters: Aggregation | None = None


class Asked(BaseModel):
    question: Text
    context: Text


class QuestionAnswering(Body):
    """Hugging Face's extractive question answering."""

    inputs: Asked
    parameters: Nothing | None = None


# answers, for those who read /openapi.json


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Scored(BaseModel):
    label: str
    score: float


class Ranked(BaseModel):
    index: int
    score: float
    text: str | None = None


class Filled(BaseModel):
    score: float
    token: int | None
    token_str: str
    sequence: str


class Entity(BaseModel):
    entity_group: str
    word: str
    start: int
    end: int
    score: float | None


class Found(BaseModel):
    answer: str
    start: int
    end: int
    score: float


class Answered(BaseModel):
    label: Any
    scores: dict[str, float]


class Attended(BaseModel):
    tokens: list[str]
    layers: int
    layer: int
    weights: list[list[list[float]]] = Field(description="[head][reading token][token read]")


class Error(BaseModel):
    error: str | dict[str, Any]
    error_type: str | None = None
