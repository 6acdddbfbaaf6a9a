"""Hugging Face: the directory of a stock class of `transformers`, or a refusal that says what no class holds."""

from pathlib import Path

from bertsmith.export.graph import Asked, Graph
from bertsmith.export.parity import Run
from bertsmith.export.target import Made
from bertsmith.model import Model, load


def write(asked: Asked, folder: Path) -> Made:
    """The directory; it is read again with bertsmith's own reader to be checked."""
    if asked.graph.normalize:
        raise ValueError("a class of transformers makes no vector one long: --normalize is for the other targets")
    write_stock(asked.model, folder)
    return Made("", "bertsmith", by_reader(folder, normalize=False))


def by_reader(folder: Path, normalize: bool) -> Run:
    """What bertsmith makes of the directory when it opens it again."""
    graph = Graph(load(folder), normalize)
    return lambda batch: graph(**batch)


def write_stock(model: Model, folder: Path) -> None:
    """The directory. Raises ValueError if no stock class holds the model."""
    if kinds := sorted({f"{c['how']}/{c['spec'].kind}" for c in model.encoder.changes}):
        raise ValueError(f"no class of transformers holds {', '.join(kinds)}: onnx, openvino and torch do")
    model.save(folder)
    if not (folder / "config.json").exists():
        model.save(folder, stock=model.origin.get("model_type") or "bert")  # it says what the nearest class lacks
