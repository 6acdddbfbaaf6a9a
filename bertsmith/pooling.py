"""Maximum and softmax over the tokens of each document, its last one, and both ends of a row; padded or packed alike.

B rows, T tokens, C documents, D width, K scores of a token.
"""

import torch
from torch import Tensor

from bertsmith.layout import Layout


def maximum(x_BTD: Tensor, layout: Layout) -> Tensor:
    """x_CD: the largest of each number over the tokens of a document; 0 for one without tokens."""
    into = torch.where(layout.real_BT, layout.document_BT, layout.count).flatten()
    out = x_BTD.new_zeros(layout.count + 1, x_BTD.shape[-1])
    into = into[:, None].expand(-1, x_BTD.shape[-1])
    return out.scatter_reduce(0, into, x_BTD.flatten(0, 1), "amax", include_self=False)[:-1]


def last_BT(layout: Layout) -> Tensor:
    """Whether a place holds the last token of its document."""
    place_T = torch.arange(layout.segment_BT.shape[1], device=layout.segment_BT.device)
    next_T = (place_T + 1).clamp(max=layout.segment_BT.shape[1] - 1)
    return (layout.segment_BT[:, next_T] != layout.segment_BT) | (next_T == place_T)


def softmax(score_BTK: Tensor, layout: Layout) -> Tensor:
    """p_BTK in fp32: each score's softmax over the tokens of a document; 0 at padding."""
    score_BTK = score_BTK.float()
    below_BTK = score_BTK - maximum(score_BTK.detach(), layout)[layout.document_BT]
    e_BTK = torch.where(layout.real_BT[..., None], below_BTK, -torch.inf).exp()
    sum_CK = layout.sum_CD(e_BTK, torch.ones_like(layout.position_BT))
    return e_BTK / sum_CK.clamp(min=torch.finfo(torch.float32).tiny)[layout.document_BT]


def ends(y_CD: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(y_BD of the first document of each row, y_BD of the last)."""
    first_B = layout.before_B
    return y_CD[first_B], y_CD[first_B + layout.segment_BT.amax(1) - 1]
