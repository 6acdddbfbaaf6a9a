"""Masked language modelling: -log p(token | the rest) at the asked positions, and only there.

BERT, Devlin et al. 2018, arXiv:1810.04805, section 3.1 (task 1). The head and its loss never see the other positions.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import head as heads
from bertsmith.masking import Masking
from bertsmith.norm import norm as norms
from bertsmith.objective import Batch, Corrupt, Objective
from bertsmith.spec import Spec


class Mask(Corrupt):
    """Draws a fresh mask for every row; adds "asked" (flat places in B * T) and "answer" (the tokens there)."""

    def __init__(self, masking: Masking, special: list[int]):
        self.masking, self.special = masking, np.array(special)

    def __call__(self, batch: Batch, rngs: list[np.random.Generator]) -> Batch:
        token_BT, real_BT = batch["token"].numpy(), batch["layout"].real_BT.numpy()
        may_BT = real_BT & ~np.isin(token_BT, self.special)
        pairs = [self.masking(t, m, rng) for t, m, rng in zip(token_BT, may_BT, rngs, strict=True)]
        label = np.stack([label for _, label in pairs]).ravel()
        asked = np.flatnonzero(label >= 0)
        drawn = {"token": np.stack([hidden for hidden, _ in pairs]), "asked": asked, "answer": label[asked]}
        return batch | {name: torch.from_numpy(x) for name, x in drawn.items()}


class MaskedLM(Objective):
    """Settings: `special` ids are never asked; `head` gives the logits of tokens (BERT's, with `norm`, where it is None)."""

    paper = "arXiv:1810.04805"
    example: dict[str, Any] = {"masking": {"kind": "masking/bert"}}

    def __init__(
        self,
        encoder: Encoder,
        *,
        masking: Spec,
        mask_id: int = 4,
        special: list[int] = [0, 1, 2, 3, 4],  # noqa: B006
        norm: Spec | None = None,
        head: Spec | None = None,
    ):
        super().__init__(encoder)
        self.head_spec = head or heads("masked_lm", norm=norm or norms("layer"))
        self.head = self.head_spec.build(encoder, 0)
        self.mask = Mask(masking.build(len(encoder.embedding.table.weight), mask_id), special)

    def corruption(self) -> Corrupt:
        return self.mask

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        h_ND = encoder.at(batch["token"], batch["layout"], batch["asked"])
        return self.head.logits(h_ND, batch["layout"]), batch["answer"]
