"""DeBERTa-v2 and v3: disentangled attention over logarithmic buckets, no absolute positions, and a convolution beside layer 1.

He et al. 2020, arXiv:2006.03654, and 2021, arXiv:2111.09543.

The reference: with `position_biased_input` false it ignores a table of absolute positions that the released checkpoints still
have (their enhanced mask decoder's), and its own path to that decoder (`z_steps`) crashes; see
`objective/enhanced_mask_decoder`.
"""

import torch
from torch import Tensor

from bertsmith.block import block
from bertsmith.hf import Config, Family, Row, both, each
from bertsmith.hf.disentangled import (
    STOCKS,
    UNUSED,
    embedding_rows,
    hidden_dropout,
    layer_rows,
    span_of,
    stack,
    stack_config,
    terms_of,
)
from bertsmith.hf.fields import ACT, Field, at, config_of, only, spec_of
from bertsmith.norm import norm
from bertsmith.position import position
from bertsmith.spec import Spec


def _norm(config: Config) -> Spec | None:
    """The norm of the table of places."""
    said = [kind.strip() for kind in config.get("norm_rel_ebd", "none").lower().split("|")]
    return norm("layer", eps=config.get("layer_norm_eps", 1e-7)) if "layer_norm" in said else None


PLACE = [
    Field("pos_att_type", ("kinds",), terms_of, lambda place: place.get("kinds")),
    Field("max_relative_positions", ("span",), span_of, lambda place: place.get("span")),
    Field("norm_rel_ebd", ("norm",), _norm, lambda place: "none" if place.get("norm") is None else "layer_norm"),
    at("position_buckets", "buckets", usual=-1, turn=(lambda n: max(0, n), lambda n: n or -1)),
    at("share_att_key", "shared", usual=False),
]
CONV = [at("conv_kernel_size", "width"), at("conv_act", "act", usual="tanh", turn=ACT)]


def encoder_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    width, count, dim = config.get("conv_kernel_size", 0), config["num_attention_heads"], config["hidden_size"]
    if width > 0:
        only(config, {"conv_groups": 1})
    if (head_dim := config.get("attention_head_size")) and head_dim * count != dim:
        raise ValueError(
            f"attention_head_size {head_dim} is not hidden_size / num_attention_heads; only that is supported"
        )
    place = position("none")
    if terms_of(config):
        place = spec_of(position("disentangled", dropout=hidden_dropout(config)), PLACE, config)
    spec = stack(config, place)
    if width <= 0:
        return spec
    one, ln = spec.get("blocks.0"), spec.get("embedding.norm")
    first = spec_of(block("beside_conv", inner=one, norm=ln, dropout=hidden_dropout(config)), CONV, config)
    return spec.replace("blocks", [first] + [one] * (config["num_hidden_layers"] - 1))


def encoder_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    first = spec.get("blocks.0")
    conv: Config = {"conv_kernel_size": 0}
    if first.kind == "beside_conv":
        conv, spec = config_of(CONV, first), spec.replace("blocks", [first.get("inner")])
    made = stack_config(spec)
    place = config_of(PLACE, spec.get("blocks.0.mixer.position")) if made["relative_attention"] else {}
    return conv | place | made | {"conv_groups": 1}


def _joined(taps: Tensor | list[Tensor]) -> Tensor:
    return torch.stack([taps] if isinstance(taps, Tensor) else taps, -1)


def rows(config: Config) -> list[Row]:
    """The first layer stands inside the block that has the convolution, where there is one."""
    width = config.get("conv_kernel_size", 0)
    first = "encoder.layers.0." + ("inner." if width > 0 else "")
    names = {"q": "query", "k": "key", "v": "value", "position.key": "pos_key", "position.query": "pos_query"}
    attention = {f"mixer.{ours}": f"attention.self.{theirs}_proj" for ours, theirs in names.items()}
    out = [
        *embedding_rows(config),
        (first + "mixer.position.table.weight", "encoder.rel_embeddings.weight"),
        *both(first + "mixer.position.norm", "encoder.LayerNorm"),
    ]
    for i in range(config["num_hidden_layers"]):
        ours, theirs = f"encoder.layers.{i}." if i else first, f"encoder.layer.{i}."
        out += [*each(ours, theirs, attention), *layer_rows(ours, theirs)]
    if width > 0:
        taps = tuple(f"encoder.layers.0.taps.{k}.weight" for k in range(width))
        out += [
            # theirs is [out, in, tap]
            (taps, "encoder.conv.conv.weight", (lambda w: w.unbind(-1), _joined)),
            ("encoder.layers.0.taps.0.bias", "encoder.conv.conv.bias"),
            *both("encoder.layers.0.norm", "encoder.conv.LayerNorm"),
        ]
    return out


FAMILY = Family(
    types={"deberta-v2": "DebertaV2"},
    prefix="deberta.",
    spec=encoder_spec,
    config=encoder_config,
    rows=rows,
    stocks=STOCKS,
    unused=UNUSED,
)
