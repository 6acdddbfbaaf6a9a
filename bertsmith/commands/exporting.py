"""A model as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from bertsmith.commands.shared import AdapterPath, AsJson, ModelPath, open_model, tell


def export(
    model: ModelPath,
    to: Annotated[str, typer.Option(help="onnx, openvino, torch, hf or sentence-transformers.")],
    out: Annotated[Path, typer.Option(help="A new directory, or one that an export wrote, which is replaced.")],
    embedding: Annotated[bool, typer.Option("--embedding", help="Vectors: leave the head off.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Make every vector one long.")] = False,
    adapter: AdapterPath = None,
    as_json: AsJson = False,
) -> None:
    """Write a model for another runtime, with its head and pooling; refused unless it gives what the model gives."""
    from bertsmith.export import export as write

    found = write(open_model(model, adapter), to, out, embedding, normalize)
    difference, by = found["parity"]["difference"], found["checked_with"]
    lines = f"{', '.join(found['outputs'])} in {out / found['file']}: within {difference:.1g} of the model ({by})"
    tell({"out": str(out)} | found, as_json, lines)
