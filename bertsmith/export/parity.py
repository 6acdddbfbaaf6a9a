"""Is what was written the model? Its outputs beside those of the model at precision="exact", number by number."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bertsmith.export.graph import Batch, Graph
from bertsmith.layout import Layout
from bertsmith.model import Model

TOLERANCE = 1e-4  # of |a - b| / max(1, |b|): float32 through some dozen layers, added up in another order

Outputs = dict[str, Tensor]  # by name
Run = Callable[[Batch], Outputs]


@torch.inference_mode()
def expected(model: Model, normalize: bool, batches: list[Batch]) -> list[Outputs]:
    """What the model gives for each batch.

    Raises ValueError if its head reads more than ids, mask and types.
    """
    graph = Graph(model, normalize)
    found = []
    for batch in batches:
        layout = Layout.padded(batch["attention_mask"], batch.get("token_type_ids"))
        found.append(graph.top(model.engine.states(batch["input_ids"], layout, "exact"), layout))
    return found


@torch.inference_mode()
def compare(run: Run, by_token: set[str], batches: list[Batch], wanted: list[Outputs]) -> dict[str, Any]:
    """{"difference": the largest, "outputs": {name: {"whole": of rows without padding, "padded": of the others}}, ...}.

    A difference is |a - b| / max(1, |b|); of what is said of each token only real tokens count. NaN equals nothing.
    """
    outputs: dict[str, dict[str, float]] = {}
    for batch, want in zip(batches, wanted, strict=True):
        keep_BT = batch["attention_mask"] > 0
        rows = "whole" if keep_BT.all() else "padded"
        for name, y in run(batch).items():
            a, b = (x[keep_BT] if name in by_token else x for x in (y.float(), want[name].float()))
            worst = outputs.setdefault(name, {"whole": 0.0, "padded": 0.0})
            worst[rows] = max(worst[rows], _difference(a, b))
    return {
        "difference": max(found for both in outputs.values() for found in both.values()),
        "outputs": outputs,
        "shapes": [list(batch["input_ids"].shape) for batch in batches],
        "tolerance": TOLERANCE,
    }


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return torch.inf
    found = ((a - b).abs() / b.abs().clamp(min=1)).max()
    return float(found.nan_to_num(torch.inf))
