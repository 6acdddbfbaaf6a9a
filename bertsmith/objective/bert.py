"""BERT's pre-training: masked LM plus next-sentence prediction, the two mean losses added.

Devlin et al. 2018, arXiv:1810.04805, section 3.1. Needs batches of pairs (`data/pairs`), which carry "next".
"""

from typing import Any

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.head import head as heads
from bertsmith.norm import norm as norms
from bertsmith.objective import Batch, Corrupt, Objective
from bertsmith.objective import objective as objectives
from bertsmith.spec import Spec


class Bert(Objective):
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
    ):
        super().__init__(encoder)
        self.head_spec = heads("bert_pretraining", norm=norm or norms("layer"))
        self.head = self.head_spec.build(encoder, 0)
        self.mask = objectives("masked_lm", masking=masking, mask_id=mask_id, special=special).build(encoder).mask

    def corruption(self) -> Corrupt:
        return self.mask

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """The masked tokens; the sentence pair is added in `forward`."""
        h_ND = encoder.at(batch["token"], batch["layout"], batch["asked"])
        return self.head.logits(h_ND, batch["layout"]), batch["answer"]

    def forward(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        x_BTD, layout = encoder(batch["token"], batch["layout"]), batch["layout"]
        h_ND = x_BTD.flatten(0, 1).index_select(0, batch["asked"])
        masked = self.loss(self.head.logits(h_ND, layout), batch["answer"])
        follows = self.loss(self.head.follows(x_BTD, layout), batch["next"])
        return {"loss": masked + follows, "masked": masked.detach(), "next": follows.detach()}
