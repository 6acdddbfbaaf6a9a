"""DeBERTa (the first): disentangled attention with projections of its own and a bucket a distance; keys have no bias.

He et al. 2020, arXiv:2006.03654.

The weight of q, k and v lies head by head in one tensor, with the biases of q and v apart.
"""

import torch
from torch import Tensor

from bertsmith.hf import Config, Family, Row, Turn, both, disentangled
from bertsmith.hf.stocks import without
from bertsmith.position import position
from bertsmith.spec import Spec


def encoder_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    if config.get("talking_head", False):
        raise ValueError(
            "talking_head True is not supported: heads that are mixed before the mask need a mixer of their own"
        )
    place = position("none")
    if kinds := disentangled.terms_of(config):
        span, drop = disentangled.span_of(config), disentangled.hidden_dropout(config)
        place = position("disentangled", span=span, kinds=kinds, key_bias=False, dropout=drop)
    return disentangled.stack(config, place, key_bias=False)


def _split(heads: int) -> Turn:
    """[N x (q, k, v) x H, D] to three [N x H, D], and back."""

    def to_ours(w: Tensor) -> list[Tensor]:
        return [x.flatten(0, 1) for x in w.unflatten(0, (heads, 3, -1)).unbind(1)]

    def to_theirs(parts: list[Tensor]) -> Tensor:
        return torch.stack([x.unflatten(0, (heads, -1)) for x in parts], 1).flatten(0, 2)

    return to_ours, to_theirs


def rows(config: Config) -> list[Row]:
    """Keys have no bias, and so have those of positions."""
    ours, theirs = "encoder.layers.{i}.mixer.", "encoder.layer.{i}.attention.self."
    qkv = tuple(f"{ours}{name}.weight" for name in "qkv")
    return [
        *disentangled.shared_rows(config),
        ("encoder.layers.0.mixer.position.table.weight", "encoder.rel_embeddings.weight"),
        (qkv, theirs + "in_proj.weight", _split(config["num_attention_heads"])),
        (ours + "q.bias", theirs + "q_bias"),
        (ours + "v.bias", theirs + "v_bias"),
        (ours + "position.key.weight", theirs + "pos_proj.weight"),
        *both(ours + "position.query", theirs + "pos_q_proj"),
    ]


FAMILY = Family(
    types={"deberta": "Deberta"},
    prefix="deberta.",
    spec=encoder_spec,
    config=disentangled.stack_config,
    rows=rows,
    stocks=without(disentangled.STOCKS, "ForMultipleChoice"),
    unused=disentangled.UNUSED,
)
