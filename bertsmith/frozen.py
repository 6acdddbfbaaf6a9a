"""A trained encoder whose vectors are kept: several simple methods ask for those of the same texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bertsmith.model import Model


class Frozen:
    """Make one for a comparison and drop it: a model that goes on training would be read as it was."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.held: dict[tuple[str, int], dict[str, np.ndarray]] = {}

    def encode(
        self, texts: Sequence[str], pooling: str = "", max_length: int = 0, normalize: bool = False
    ) -> np.ndarray:
        """float32 [N, D], as `Model.encode` makes them; a text that was asked before is not encoded again."""
        held = self.held.setdefault((pooling, max_length), {})
        if new := [text for text in dict.fromkeys(texts) if text not in held]:
            held.update(zip(new, self.model.encode(new, pooling, max_length), strict=True))
        out = np.zeros((len(texts), self.model.encoder.dim), np.float32)
        for row, text in enumerate(texts):
            out[row] = held[text]
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12) if normalize else out

    @torch.no_grad()
    def states(self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int = 0) -> list[np.ndarray]:
        """The last states of each text, or pair read as one: float16 [T, D] each. They are not kept."""
        found: list[np.ndarray] = [np.zeros((0, 0), np.float16)] * len(texts)
        for index, token_BT, layout in self.model.tokens(texts, pairs, max_length):
            x_BTD = self.model.engine.states(token_BT, layout, "exact")  # the same bits whatever else is in the batch
            for row, text in enumerate(index):
                found[text] = x_BTD[row][layout.real_BT[row]].half().cpu().numpy()
        return found
