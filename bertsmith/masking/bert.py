"""BERT masking: 15 % of the tokens are asked; of these 80 % become [MASK], 10 % a random token, 10 % stay.

Devlin et al. 2018, arXiv:1810.04805, section 3.1.
"""

import numpy as np

from bertsmith.masking import NOT_ASKED, Masking


class Bert(Masking):
    """Exactly round(rate * tokens) of a row are asked (at least one), as in the authors' code."""

    paper = "arXiv:1810.04805"

    def __init__(self, vocab: int, mask_id: int, *, rate: float = 0.15, masked: float = 0.8, random: float = 0.1):
        super().__init__(vocab, mask_id)
        if not (0 < rate <= 1 and 0 <= masked and 0 <= random and masked + random <= 1):
            raise ValueError(f"masking/bert: 0 < rate <= 1 and masked + random <= 1, not {rate}, {masked}, {random}")
        self.rate, self.masked, self.random = rate, masked, random

    def __call__(self, token: np.ndarray, may: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        places = np.flatnonzero(may)
        asked = rng.permutation(places)[: max(1, round(self.rate * len(places)))]
        how, noise = rng.random(len(asked)), rng.integers(0, self.vocab, len(asked))
        was = token.flat[asked]
        label, hidden = np.full_like(token, NOT_ASKED), token.copy()
        label.flat[asked] = was
        hidden.flat[asked] = np.where(
            how < self.masked, self.mask_id, np.where(how < self.masked + self.random, noise, was)
        )
        return hidden, label
