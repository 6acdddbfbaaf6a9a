"""Which tokens are hidden, and what is put in their place."""

import numpy as np

from bertsmith.spec import Slot

NOT_ASKED = -100


class Masking:
    """(token, may, rng) -> (input, label): arrays of one shape; label is NOT_ASKED where nothing is asked.

    Pure given rng; only places where `may` is True are asked.

    Args:
        vocab: number of token ids.
        mask_id: id of [MASK].
    """

    paper = ""

    def __init__(self, vocab: int, mask_id: int):
        self.vocab, self.mask_id = vocab, mask_id

    def __call__(self, token: np.ndarray, may: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


masking = Slot(__name__, Masking)
