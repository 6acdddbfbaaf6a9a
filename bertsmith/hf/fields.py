"""What a config.json says of an encoder: a table of fields that is read in both directions, as the weight table is.

A family gives the encoder at some size, in which all that no config changes is as it always is, and a row for each key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.hf import Config, act_back, act_of
from bertsmith.position import position
from bertsmith.spec import Spec

Both = tuple[Callable[[Any], Any], Callable[[Any], Any]]  # (to ours, to theirs)
SAME: Both = (lambda value: value, lambda value: value)
ACT: Both = (act_of, act_back)
NUMBER: Both = (float, lambda value: value)

# what a config.json says beside the encoder, where the output table is that of the input
TIED: Config = {"pad_token_id": 0, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Field:
    """A key of config.json and the settings of a spec that it says.

    Attributes:
        key: of config.json.
        paths: of the settings, which all have the value; none where it says only what we have.
        ours: config -> the value. Raises ValueError for one that we do not have.
        theirs: spec -> what stands at the key.
    """

    key: str
    paths: tuple[str, ...]
    ours: Callable[[Config], Any]
    theirs: Callable[[Spec], Any]


def at(key: str, *paths: str, usual: Any = None, turn: Both = SAME) -> Field:
    """A key for the settings at these paths, read back at the first; `usual` where a config may be silent."""
    ours, theirs = turn
    return Field(
        key,
        paths,
        lambda config: ours(config[key] if usual is None else config.get(key, usual)),
        lambda spec: theirs(spec.get(paths[0])),
    )


def stack(mixer: Spec, ffn: Spec, residual: Spec, ffn_residual: Spec | None, first: Spec, last: Spec) -> Spec:
    """An encoder of such layers, of a size that a config changes, whose order is in the mixer; `first`, `last`: its norms."""
    tokens = embedding("tokens", vocab=30522, position=position("none"), norm=first)
    layer = block("sequential", mixer=mixer, ffn=ffn, residual=residual, ffn_residual=ffn_residual)
    return encoder("stack", dim=768, heads=12, depth=12, embedding=tokens, blocks=[layer], norm=last)


def named(table: dict[str, Any], otherwise: str) -> Both:
    """Ours by their name, and the name of what ours equals; `otherwise` is the name of all that is not in the table."""
    back = lambda ours: next((name for name, value in table.items() if value == ours), otherwise)  # noqa: E731
    return lambda name: table.get(name, table[otherwise]), back


def shape(keys: str, depth: str = "depth") -> list[Field]:
    """The fields of vocabulary, width, depth, heads and width of the feed-forward, by their keys; `depth` is our path of it."""
    paths = ["embedding.vocab", "dim", depth, "heads", "blocks.0.ffn.hidden"]
    return [at(key, path) for key, path in zip(keys.split(), paths, strict=True)]


SHAPE = shape("vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size")


def head_dim(key: str = "head_dim", dim: str = "hidden_size", heads: str = "num_attention_heads") -> Field:
    """The width of a head; 0 with us, and with them silence or the quotient, where the heads share the width evenly."""
    wide = "blocks.0.mixer.head_dim"

    def ours(config: Config) -> int:
        said = config.get(key) or 0
        return 0 if said * config[heads] == config[dim] else said

    return Field(key, (wide,), ours, lambda spec: spec.get(wide) or spec.get("dim") // spec.get("heads"))


def rope_base(said: Config, usual: float, where: str = "") -> float:
    """The base of turned positions that a config says somewhere. Refuses a kind of them that we do not have."""
    if (how := said.get("rope_type", said.get("type", "default"))) != "default":
        raise ValueError(f"rope_type {how!r}{where} is not supported; only 'default' is")
    if (part := said.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ValueError(f"partial_rotary_factor {part}{where} is not supported: the whole of a head is turned")
    return float(said.get("rope_theta", usual))


def rope(default: float) -> Field:
    """The base of turned positions, as newer and older configs say it."""
    base = "blocks.0.mixer.position.base"

    def ours(config: Config) -> float:
        said = config.get("rope_parameters") or config.get("rope_scaling") or {}
        return rope_base(said, config.get("rope_theta", default))

    return Field("rope_parameters", (base,), ours, lambda spec: {"rope_type": "default", "rope_theta": spec.get(base)})


def only(config: Config, values: Config, where: str = "") -> None:
    """Raises ValueError for a key that says anything but the one value that we have; silence means that value."""
    for key, value in values.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} {config[key]!r} is not supported{where}; only {value!r} is")


def refuse(wrong: bool, config: Config, keys: str, say: str) -> None:
    """Raises ValueError with what the keys say together, where that is wrong; `say` ends the sentence with what there is."""
    if wrong:
        said = " with ".join(f"{key} {config.get(key)!r}" for key in keys.split())
        raise ValueError(f"{said} is not supported{say}")


def fixed(values: Config, where: str = "") -> list[Field]:
    """Keys that say nothing of ours: a config is written with these values, and one that says others is refused."""

    def one(key: str, value: Any) -> Field:
        return Field(key, (), lambda config: only(config, {key: value}, where), lambda spec: value)

    return [one(key, value) for key, value in values.items()]


def tied(config: Config, where: str) -> None:
    """Raises ValueError for an output table of its own."""
    if not config.get("tie_word_embeddings", True):
        raise ValueError(f"tie_word_embeddings False is not supported for {where}: its head reads the token table")


def spec_of(base: Spec, fields: Sequence[Field], config: Config) -> Spec:
    """`base` with the settings that a config says."""
    values: dict[str, Any] = {}
    for field in fields:
        values |= dict.fromkeys(field.paths, field.ours(config))
    return altered(base, values)


def config_of(fields: Sequence[Field], spec: Spec) -> Config:
    """The keys of config.json that say a spec. Raises ValueError for a setting that it does not have."""
    return {field.key: field.theirs(spec) for field in fields}


def altered(node: Any, values: dict[str, Any]) -> Any:
    """A copy of a spec (or of a list of them) with these values at dotted paths; "" is the path of the whole.

    It is made and checked once, while `Spec.replace` does so for each path.
    """
    if "" in values:
        return values[""]
    below: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        below.setdefault(name, {})[rest] = value
    if isinstance(node, list):
        return [altered(one, below.get(str(i), {})) for i, one in enumerate(node)]
    return node.slot(
        node.kind, **node.args | {name: altered(node.args.get(name), more) for name, more in below.items()}
    )
