"""DeBERTa-v2 and v3: disentangled attention over logarithmic buckets, no absolute positions, and a convolution beside layer 1.

He et al. 2020, arXiv:2006.03654, and 2021, arXiv:2111.09543.

The reference: with `position_biased_input` false it ignores a table of absolute positions that the released checkpoints still
have (their enhanced mask decoder's), and its own path to that decoder (`z_steps`) crashes; see
`objective/enhanced_mask_decoder`.
"""

import torch

from bertsmith.block import block
from bertsmith.hf import Config, Family, Row, Turn, both, disentangled, each
from bertsmith.hf.fields import ACT, Field, at, config_of, fixed, refuse, spec_of
from bertsmith.position import position
from bertsmith.spec import Spec


def _norm(config: Config) -> Spec | None:
    """The norm of the table of places."""
    said = [kind.strip() for kind in config.get("norm_rel_ebd", "none").lower().split("|")]
    return disentangled.norm_of(config) if "layer_norm" in said else None


PLACE = [
    Field("pos_att_type", ("kinds",), disentangled.terms_of, lambda place: place.get("kinds")),
    Field("max_relative_positions", ("span",), disentangled.span_of, lambda place: place.get("span")),
    Field("norm_rel_ebd", ("norm",), _norm, lambda place: "none" if place.get("norm") is None else "layer_norm"),
    at("position_buckets", "buckets", usual=-1, turn=(lambda n: max(0, n), lambda n: n or -1)),
    at("share_att_key", "shared", usual=False),
]
CONV = [at("conv_kernel_size", "width"), at("conv_act", "act", usual="tanh", turn=ACT), *fixed({"conv_groups": 1})]
# theirs is [out, in, tap]; a single tap comes as it is
TAPS: Turn = (lambda w: w.unbind(-1), lambda taps: torch.stack(taps if isinstance(taps, list) else [taps], -1))


def encoder_spec(config: Config) -> Spec:
    """The encoder of a config.json. Raises ValueError naming what we do not have."""
    head_dim, count = config.get("attention_head_size"), config["num_attention_heads"]
    other = bool(head_dim) and head_dim * count != config["hidden_size"]
    refuse(other, config, "attention_head_size", "; only hidden_size / num_attention_heads is")
    place, dropout = position("none"), disentangled.hidden_dropout(config)
    if disentangled.terms_of(config):
        place = spec_of(position("disentangled", dropout=dropout), PLACE, config)
    spec = disentangled.stack(config, place)
    if config.get("conv_kernel_size", 0) <= 0:
        return spec
    one, ln = spec.get("blocks.0"), spec.get("embedding.norm")
    first = spec_of(block("beside_conv", inner=one, norm=ln, dropout=dropout), CONV, config)
    return spec.replace("blocks", [first] + [one] * (config["num_hidden_layers"] - 1))


def encoder_config(spec: Spec) -> Config:
    """The fields of config.json that say the encoder."""
    first = spec.get("blocks.0")
    conv: Config = {"conv_kernel_size": 0, "conv_groups": 1}
    if first.kind == "beside_conv":
        conv, spec = config_of(CONV, first), spec.replace("blocks", [first.get("inner")])
    made = disentangled.stack_config(spec)
    place = config_of(PLACE, spec.get("blocks.0.mixer.position")) if made["relative_attention"] else {}
    return conv | place | made


def layers(config: Config) -> list[tuple[str, str]]:
    """The first layer stands inside the block that has the convolution, where there is one."""
    first = "0.inner" if config.get("conv_kernel_size", 0) > 0 else "0"
    return [(first, "0"), *((str(i), str(i)) for i in range(1, config["num_hidden_layers"]))]


def rows(config: Config) -> list[Row]:
    """The table of places is the first layer's; the convolution, where there is one, stands beside that layer."""
    ours, theirs = "encoder.layers.{i}.mixer.", "encoder.layer.{i}.attention.self."
    places = ours.replace("{i}", layers(config)[0][0]) + "position."
    names = {"q": "query", "k": "key", "v": "value", "position.key": "pos_key", "position.query": "pos_query"}
    out = [
        *disentangled.shared_rows(config),
        *each(ours, theirs, {part: f"{name}_proj" for part, name in names.items()}),
        (places + "table.weight", "encoder.rel_embeddings.weight"),
        *both(places + "norm", "encoder.LayerNorm"),
    ]
    if width := max(0, config.get("conv_kernel_size", 0)):
        taps = tuple(f"encoder.layers.0.taps.{k}.weight" for k in range(width))
        out += [
            (taps, "encoder.conv.conv.weight", TAPS),
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
    stocks=disentangled.STOCKS,
    unused=disentangled.UNUSED,
    layers=layers,
)
