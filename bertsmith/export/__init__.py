"""A model as files that other programs run, proved equal to the model before they get their name.

    from bertsmith.export import export
    export(model, "onnx", "out")

A target is a file here with `write(asked, folder)`: it writes what the other program opens, and hands back how to run it.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertsmith import __version__
from bertsmith.adapter import digest
from bertsmith.export import hf, onnx, openvino, parity, sentence_transformers, torch
from bertsmith.export.graph import Asked, Graph, batches, makes_vector
from bertsmith.export.target import Made
from bertsmith.files import atomic_dir, write_atomic
from bertsmith.jieba import to_text
from bertsmith.linear import bake
from bertsmith.model import Bundle, Model
from bertsmith.spec import to_plain

FORMAT = 1
ABOUT = "export.json"
TARGETS: dict[str, Callable[[Asked, Path], Made]] = {
    "onnx": onnx.write,
    "openvino": openvino.write,
    "torch": torch.write,
    "hf": hf.write,
    "sentence-transformers": sentence_transformers.write,
}


def export(model: Model, to: str, out: Path | str, embedding: bool = False, normalize: bool = False) -> dict[str, Any]:
    """Write a directory: the graph, or the other library's files, with tokenizer.json and export.json, which is returned.

    Args:
        to: one of TARGETS.
        out: a new directory, or one that an export wrote, which it replaces.
        embedding: leave the head off and give vectors, as a model without one does anyway.
        normalize: make every vector one long.

    Raises:
        ValueError: there is no such target; something else is at `out`; the target cannot hold this model, and why.
        ImportError: a package is absent; it says what to install.
        RuntimeError: what was written does not give what the model gives. Nothing is left behind.
    """
    out = Path(out)
    if to not in TARGETS:
        raise ValueError(f"no target {to!r}; there are: {', '.join(TARGETS)}")
    if out.exists() and not (out / ABOUT).exists():
        raise ValueError(f"{out} exists and was not written by an export: name another, or remove it first")
    if model.device.type != "cpu":
        raise ValueError(f"the weights are on {model.device}, and an export reads them on the CPU: model.to('cpu')")
    if embedding and not makes_vector(model):
        model = _copy(model, Bundle(model.encoder, None))
    if model.head is not None and model.head.apart:
        raise ValueError(
            f"{model.head_spec} compares two texts that are read apart, and a graph is given one text a row: leave it off with "
            "--embedding, and compare the vectors"
        )
    given = batches(model)
    plain = _baked(model)
    asked = Asked(plain, Graph(plain, normalize).eval(), given)
    if normalize and asked.graph.answers:
        raise ValueError("a head's logits are not made one long: --normalize is for vectors, --embedding gives them")
    wanted = parity.expected(model, normalize, given)
    with atomic_dir(out) as folder:
        made = TARGETS[to](asked, folder)
        try:
            found = parity.compare(made.run, asked.graph.by_token, given[: made.batches], wanted[: made.batches])
        except Exception as error:  # of a program that is not ours, whatever it raises
            refused = f"refused, nothing was written: {made.checked_with} does not run it"
            raise RuntimeError(f"{refused} ({type(error).__name__}: {error})") from error
        if found["difference"] > parity.TOLERANCE:
            raise RuntimeError(
                f"refused, nothing was written: {made.checked_with} gives other numbers than the model, "
                f"{json.dumps(found['outputs'])} where {parity.TOLERANCE:g} is allowed"
            )
        about = _about(model, asked, made) | {"target": to, "weights": digest(model), "parity": found}
        write_atomic(folder / "tokenizer.json", to_text(model.tokenizer, pretty=True))
        write_atomic(folder / ABOUT, json.dumps(about, indent=1))
    return about


def _about(model: Model, asked: Asked, made: Made) -> dict[str, Any]:
    """What those who run it must know; the labels are the names of the logits."""
    names = model.task.build(model.labels).output_names if model.task else []
    return {
        "format": FORMAT,
        "bertsmith": __version__,
        "file": made.file,
        "inputs": asked.inputs,
        "outputs": asked.outputs,
        "task": to_plain(model.task),
        "labels": names or model.labels,
        "max_length": model.max_length,
        "pooling": model.pooling,
        "normalized": asked.graph.normalize,
        "checked_with": made.checked_with,
    } | made.about


def _baked(model: Model) -> Model:
    """The same with its edits in the weights; as it is where they cannot all be."""
    bundle = copy.deepcopy(model.bundle)
    try:
        bake(bundle.encoder)
    except ValueError:  # a bias that the layer has no place for: the edit goes into the graph
        return model
    return _copy(model, bundle)


def _copy(model: Model, bundle: Bundle) -> Model:
    """Another model of this encoder and head; without a head it has no task."""
    head, task, labels = (model.head_spec, model.task, model.labels) if bundle.head is not None else (None, None, [])
    made = Model(model.spec, bundle, model.tokenizer, head, task, labels, model.pooling, model.max_length)
    made.report, made.origin, made.long = model.report, model.origin, model.long
    return made
