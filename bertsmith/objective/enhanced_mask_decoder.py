"""Masked language modelling with an enhanced mask decoder: absolute positions enter where masks are decoded, nowhere else.

q_0 = H + P,  q_n = layer_L(query q_(n-1), keys and values H),  H = states before the last layer, P = the absolute positions;
the head reads the last q. The layers of the decoder are the encoder's last one, `times` over.

DeBERTa, He et al. 2020, arXiv:2006.03654, section 3.2 and appendix "Enhanced Mask Decoder" (n = 2 layers of shared weights).

Differs from the paper: q_0 = H + P as in its code, where the page has q_0 = P. The table of positions is not shipped, as
fine-tuning is without it; a model that was saved fills masks from the last layer as it stands.
"""

from typing import Any

from torch import Tensor

from bertsmith.encoder import Encoder
from bertsmith.layout import Layout
from bertsmith.linear import Embedding
from bertsmith.objective import Batch, Corrupt, Objective
from bertsmith.objective import objective as objectives
from bertsmith.spec import Spec


class EnhancedMaskDecoder(Objective):
    """`length`: rows of the table of positions. Raises ValueError for times < 1."""

    paper = "arXiv:2006.03654"
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
        length: int = 512,
        times: int = 2,
    ):
        super().__init__(encoder)
        if times < 1:
            raise ValueError(f"the decoder runs the encoder's last layer once or more, not {times} times")
        same = {"masking": masking, "mask_id": mask_id, "special": special, "norm": norm, "head": head}
        plain = objectives("masked_lm", **same).build(encoder)
        self.head, self.head_spec, self.mask = plain.head, plain.head_spec, plain.mask
        self.place, self.times = Embedding(length, encoder.dim), times

    def corruption(self) -> Corrupt:
        return self.mask

    def decode(self, encoder: Encoder, token_BT: Tensor, layout: Layout) -> Tensor:
        """x_BTD for the head, from the states that the encoder has before its last layer."""
        h_BTD = encoder.states(token_BT, layout)[-2]
        layout = encoder.prepare(token_BT, layout)
        q_BTD = h_BTD + self.place(layout.position_BT)
        for _ in range(self.times):
            q_BTD = encoder.layers[-1](q_BTD, layout, (h_BTD, layout))
        return encoder.drop(encoder.norm(q_BTD, layout))

    def predict(self, encoder: Encoder, batch: Batch) -> tuple[Tensor, Tensor]:
        x_BTD = self.decode(encoder, batch["token"], batch["layout"])
        h_ND = x_BTD.flatten(0, 1).index_select(0, batch["asked"])
        return self.head.logits(h_ND, batch["layout"]), batch["answer"]
