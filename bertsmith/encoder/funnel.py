"""Funnel: every block of layers but the first begins by halving the tokens; a decoder of a few layers gives each its own back.

    h <- layer(pool(h), reading h),   pool: [CLS] alone, then the means of (1, 2), (3, 4), ...
    decoder(h_first_block + up(h_last)),   up: the state of each token's group

With `decoder` 0 there is none, and a token has the state of its group: for what reads [CLS] alone.

Funnel-Transformer, Dai et al. 2020, arXiv:2006.03236, sections 2.2 to 2.4; pooled queries only (eq. 3).

Differs from the paper: tokens are halved document by document, so that padding and other documents change nothing: as in its
code, the last token is left out, of the document and not of the row. Documents of two tokens are not halved.

C documents, T tokens, G groups of tokens, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bertsmith import fused
from bertsmith.encoder import Encoder
from bertsmith.init import init as inits
from bertsmith.layout import Layout
from bertsmith.linear import Dropout
from bertsmith.linear import share as tie
from bertsmith.spec import Spec


class Funnel(Encoder):
    """Settings: `sizes`, the layers of each block; `decoder`, its layers, which follow as `layers.N`; `blocks`, what a layer
    is, repeated over the depth.
    """

    paper = "arXiv:2006.03236"
    example = {
        "dim": 16,
        "heads": 2,
        "sizes": [1, 1, 1],
        "decoder": 1,
        "embedding": {
            "kind": "embedding/tokens",
            "vocab": 50,
            "position": {"kind": "position/none"},
            "norm": {"kind": "norm/layer"},
        },
        "blocks": [
            {
                "kind": "block/sequential",
                "mixer": {
                    "kind": "mixer/attention",
                    "position": {"kind": "position/transformer_xl", "types": True, "apart": True},
                },
                "ffn": {"kind": "ffn/mlp", "hidden": 24},
                "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
            }
        ],
        "norm": {"kind": "norm/none"},
    }

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        sizes: list[int],
        decoder: int,
        embedding: Spec,
        blocks: list[Spec],
        norm: Spec,
        init: Spec | None = None,
        share: list[str] = [],  # noqa: B006
        dropout: float = 0.0,
    ):
        super().__init__()
        if not blocks or not sizes or min(sizes) < 1:
            raise ValueError(
                f"encoder/funnel needs `blocks`, and `sizes` of 1 layer or more; got {len(blocks)} and {sizes}"
            )
        self.dim, self.heads, self.sizes, self.depth = dim, heads, sizes, sum(sizes) + decoder
        self.embedding = embedding.build(dim, heads)
        built = [blocks[i % len(blocks)].build(dim, heads, i, self.depth) for i in range(self.depth)]
        self.layers, self.norm, self.drop = nn.ModuleList(built), norm.build(dim), Dropout(dropout)
        tie(self, *share)
        self.init = (init or inits("normal")).build(dim, self.depth)

    def states(self, token_BT: Tensor, layout: Layout) -> list[Tensor]:
        rows, index_CT, back_BT = layout.by_document()
        token_CT, T = token_BT.flatten()[index_CT], token_BT.shape[1]
        whole = here = self.prepare(token_CT, rows, T)
        x_CGD = self.embed(token_CT, whole)
        wide, layers = [x_CGD], iter(self.layers)
        for block, size in enumerate(self.sizes):
            for number in range(size):
                layer = next(layers)
                if block and not number:
                    pooled_CGD, pooled, first_CG = _pool(x_CGD, here)
                    token_CT = token_CT.gather(1, first_CG)
                    pooled = self.prepare(token_CT, pooled, T)
                    x_CGD, here = fused.through(layer, pooled_CGD, pooled, (x_CGD, here)), pooled
                else:
                    x_CGD = fused.through(layer, x_CGD, here)
                wide.append(_spread(x_CGD, here, T, 2**block))
        if len(self.layers) > sum(self.sizes):
            x_CTD = wide[-1] + wide[self.sizes[0]]
            for layer in layers:
                x_CTD = fused.through(layer, x_CTD, whole)
                wide.append(x_CTD)
        wide[-1] = self.drop(self.norm(wide[-1], whole))
        return [x.flatten(0, 1)[back_BT] for x in wide]


def _pool(x_CGD: Tensor, layout: Layout) -> tuple[Tensor, Layout, Tensor]:
    """(the means of pairs, their layout, the first of each pair); half as many places, and one."""
    G, count_C1 = x_CGD.shape[1], layout.real_BT.sum(1, keepdim=True)
    group = torch.arange(G // 2 + 1, device=x_CGD.device)[None]
    short_C1 = count_C1 <= 2
    first_CG = torch.where(short_C1, group, (2 * group - 1).clamp(min=0))
    second_CG = torch.where(short_C1, group, 2 * group)
    left = count_C1 - (~short_C1).long()  # all tokens, or all but the last
    have = [(i < left)[..., None].to(x_CGD.dtype) for i in (first_CG, second_CG)]
    index = [i.clamp(max=G - 1) for i in (first_CG, second_CG)]
    parts = [x_CGD.gather(1, i[..., None].expand(-1, -1, x_CGD.shape[2])) * h for i, h in zip(index, have, strict=True)]
    pooled_CGD = (parts[0] + parts[1]) / (have[0] + have[1]).clamp(min=1)
    return pooled_CGD, replace(layout.take(index[0]), segment_BT=(first_CG < left).long()), index[0]


def _spread(x_CGD: Tensor, layout: Layout, T: int, stride: int) -> Tensor:
    """Each of T tokens gets the state of its group: the first its own, then `stride` tokens one group; 0 behind the last."""
    if stride == 1:
        return x_CGD
    group_T = (torch.arange(T, device=x_CGD.device) + stride - 1) // stride
    inside_T, group_T = group_T < x_CGD.shape[1], group_T.clamp(max=x_CGD.shape[1] - 1)
    there_CT = layout.real_BT[:, group_T] & inside_T
    return torch.where(there_CT[..., None], x_CGD[:, group_T], 0)
