"""ONNX: one file (and one for the weights, where they are over 2 GB) for ONNX Runtime and whatever else reads it.

Opset 18, the one that torch's exporter is written for: nothing is converted afterwards.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertsmith.export.graph import AXES, Asked, Batch, trace_basic
from bertsmith.export.parity import Outputs, Run
from bertsmith.export.target import Made, installed, needs

OPSET = 18
TINY = 2  # batches that onnx's own interpreter is asked for: it is slow


def write(asked: Asked, folder: Path) -> Made:
    """model.onnx, checked with ONNX Runtime, or with onnx's reference evaluator where that is not installed."""
    needs("export", ["onnx", "onnxscript"])
    path = folder / "model.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it remarks on packages that are not there
    with warnings.catch_warnings():  # all inputs have the same axes: it remarks on that, too
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            trace_basic(asked),
            dynamo=True,
            opset_version=OPSET,
            input_names=asked.inputs,
            output_names=asked.outputs,
            dynamic_shapes={name: dict(enumerate(AXES)) for name in asked.inputs},
            verbose=False,
        )
    assert made is not None
    _tell_apart(made.model, asked.outputs)
    made.save(path)
    fast = installed("onnxruntime")
    run = _by_runtime(path, asked.outputs) if fast else _by_reference(path, asked.outputs)
    return Made(path.name, "onnxruntime" if fast else "onnx", run, {"opset": OPSET}, None if fast else TINY)


def _tell_apart(model: Any, outputs: list[str]) -> None:
    """Give another name to what is no output and is called like one: torch calls a value after its operator, "embedding"."""
    mine = {id(value) for value in model.graph.outputs}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.name in outputs and id(value) not in mine:
                value.name = f"{value.name}_inside"


def _by_runtime(path: Path, outputs: list[str]) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: _named(outputs, session.run(outputs, _arrays(batch)))


def _by_reference(path: Path, outputs: list[str]) -> Run:
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(str(path))
    return lambda batch: _named(outputs, session.run(outputs, _arrays(batch)))


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in batch.items()}


def _named(outputs: list[str], found: Any) -> Outputs:
    return {name: torch.from_numpy(np.array(y)) for name, y in zip(outputs, found, strict=True)}
