"""torch: an ExportedProgram, `torch.export.load("model.pt2")`, for torch itself, AOTInductor and ExecuTorch."""

from pathlib import Path

import torch

from bertsmith.export.graph import Asked, trace
from bertsmith.export.target import Made


def write(asked: Asked, folder: Path) -> Made:
    """model.pt2, opened again to be checked. It takes positional inputs and gives a dict of outputs.

    Guards are left out: Funnel's would refuse a row of one token, which it computes as well as any.
    """
    path = folder / "model.pt2"
    torch.export.save(trace(asked), path)
    program = torch.export.load(path).module(check_guards=False)
    return Made(path.name, "torch", lambda batch: program(*batch.values()))
