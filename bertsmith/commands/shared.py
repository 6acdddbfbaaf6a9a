"""What several commands take, and how all of them speak."""

import json
import sys
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Source = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...", help="Files, folders, globs or - : .txt .jsonl .csv .parquet, .gz and .xz of them."
    ),
]
ModelPath = Annotated[
    str, typer.Argument(metavar="MODEL", help="A directory that `load` opens, ours or Hugging Face's.")
]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text.")]
PairColumn = Annotated[
    str | None, typer.Option(help="Column of the second text, for tasks about pairs; of choices several: a,b,c.")
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the label; of numbers several: a,b,c.")]
AdapterPath = Annotated[
    str | None, typer.Option(help="An adapter directory (what `finetune` changed alone), to be put onto MODEL.")
]
PrecisionName = Annotated[
    str,
    typer.Option(
        help="A promise: default, every text's cosine to fp32 is 0.9999 or more; fast, 0.999 in the mean; exact, fp32."
    ),
]
BaselineNames = Annotated[
    str,
    typer.Option(
        help="What is beside the score: tfidf (for spans: words' commonest tags), all, or none (the majority answer always is)."
    ),
]
MaxLength = Annotated[int, typer.Option(help="Tokens of a text at most.")]
Seed = Annotated[int, typer.Option(help="Every random choice follows from it.")]


def say(line: str) -> None:
    print(line, file=sys.stderr)


def tell(result: Any, as_json: bool, plain: str) -> None:
    """The result on the standard output, as JSON or as a text for people."""
    print(json.dumps(result, ensure_ascii=False) if as_json else plain)


def brief(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def columns_of(said: str | None) -> str | list[str] | None:
    """A column, or several with commas between them."""
    return said.split(",") if said and "," in said else said


def precision_of(said: str) -> Any:
    """The same. ValueError, listing them, for an unknown one, before a model is opened."""
    from bertsmith.engine import check_precision

    return check_precision(said)


def open_model(model: str, adapter: str | None) -> Any:
    """A model, with an adapter put onto it if one is named."""
    from bertsmith import adapter as adapters
    from bertsmith.model import load

    opened = load(model)
    return opened if adapter is None else adapters.load(opened, adapter)
