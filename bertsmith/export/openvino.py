"""OpenVINO: model.xml and model.bin, in fp32, made from torch's graph in its basic operators."""

import importlib
import re
from pathlib import Path
from typing import Any

import torch

from bertsmith.export.graph import Asked, Batch, trace_basic
from bertsmith.export.parity import Outputs
from bertsmith.export.target import Made, needs


def write(asked: Asked, folder: Path) -> Made:
    """The two files, opened again to be checked in fp32; a processor with bf16 uses that if it is not told otherwise.

    Raises ValueError for a model that has an operator which OpenVINO does not convert.
    """
    needs("fast", ["openvino"])
    openvino: Any = importlib.import_module("openvino")
    path = folder / "model.xml"
    program = trace_basic(asked)
    try:
        made = openvino.convert_model(program)
    except openvino.frontend.OpConversionFailure as error:
        lacking = ", ".join(sorted(set(re.findall(r"aten\.\w+", str(error)))))
        raise ValueError(f"OpenVINO does not convert torch's {lacking}, which this model is made of") from error
    for ports, names in ((made.inputs, asked.inputs), (made.outputs, asked.outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    openvino.save_model(made, path, compress_to_fp16=False)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(batch: Batch) -> Outputs:
        found = compiled({name: x.numpy() for name, x in batch.items()})
        return {name: torch.from_numpy(found[name].copy()) for name in asked.outputs}

    return Made(path.name, "openvino", run)
