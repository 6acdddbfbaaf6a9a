"""sentence-transformers: the directory of a stock class with the modules Pooling and, if asked, Normalize."""

import json
from pathlib import Path
from typing import Any

from bertsmith.export.graph import Asked
from bertsmith.export.hf import by_reader, write_stock
from bertsmith.export.parity import Run
from bertsmith.export.target import Made, installed
from bertsmith.files import write_atomic


def write(asked: Asked, folder: Path) -> Made:
    """The directory; checked by the library itself, or with bertsmith's own reader where it is not installed."""
    if asked.graph.answers:
        raise ValueError(
            "sentence-transformers makes vectors, and this model has a head: leave it off with --embedding"
        )
    write_stock(asked.model, folder)
    if asked.graph.normalize:
        path = folder / "modules.json"
        modules = json.loads(path.read_text())
        one = {"idx": len(modules), "name": str(len(modules)), "path": f"{len(modules)}_Normalize"}
        modules.append(one | {"type": "sentence_transformers.models.Normalize"})
        write_atomic(path, json.dumps(modules, indent=1))
    if installed("sentence_transformers"):
        return Made("", "sentence-transformers", _by_library(folder))
    return Made("", "bertsmith", by_reader(folder, asked.graph.normalize))


def _by_library(folder: Path) -> Run:
    from sentence_transformers import SentenceTransformer

    opened: Any = SentenceTransformer(str(folder), device="cpu").eval()

    return lambda batch: {"embedding": opened(dict(batch))["sentence_embedding"]}
