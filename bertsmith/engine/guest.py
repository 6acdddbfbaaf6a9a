"""The engine of an adapter that lives with its base: the base's kernel runs its texts, and others' in the same batch."""

import numpy as np
from torch import Tensor

from bertsmith.engine import Engine, Precision
from bertsmith.layout import Layout


class Guest(Engine):
    """Runs an encoder by its host, at one precision; at others by itself.

    Args:
        own: the engine that it had. host: that of its base.

    Raises Unsupported if the host cannot (see `Engine.adopt`).
    """

    def __init__(self, own: Engine, host: Engine, precision: Precision):
        super().__init__(own.encoder, own.longest, own.probes, own.examples)
        self.host, self.at = host, precision
        self.number = host.adopt(self, precision)

    def about(self, precision: str = "default") -> dict[str, str]:
        return self.host.about(precision) if precision == self.at else super().about(precision)

    def states(
        self, token_BT: Tensor, layout: Layout, precision: str = "default", adopted_B: np.ndarray | None = None
    ) -> Tensor:
        if precision != self.at:
            return super().states(token_BT, layout, precision, adopted_B)
        return self.host.states(token_BT, layout, precision, self._mine(len(token_BT)))

    def pooled(
        self,
        ids: np.ndarray,
        starts: np.ndarray,
        pooling: str,
        precision: str = "default",
        types: np.ndarray | None = None,
        unit: bool = False,
        adopted: np.ndarray | None = None,
    ) -> np.ndarray | None:
        if precision != self.at:
            return super().pooled(ids, starts, pooling, precision, types, unit, adopted)
        return self.host.pooled(ids, starts, pooling, precision, types, unit, self._mine(len(starts) - 1))

    def _mine(self, texts: int) -> np.ndarray:
        return np.full(texts, self.number, np.int32)
