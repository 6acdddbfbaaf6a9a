"""What a config.json says of an encoder: a table of fields that is read in both directions, as the weight table is.

A family gives the encoder at some size, in which all that no config changes is as it always is, and a row for each key.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bertsmith.block import block
from bertsmith.embedding import embedding
from bertsmith.encoder import encoder
from bertsmith.hf import Config, act_back, act_of
from bertsmith.mixer import mixer
from bertsmith.norm import norm as norms
from bertsmith.position import position
from bertsmith.residual import residual
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


def pre_norm(mixer: Spec, ffn: Spec, norm: Spec, first: Spec | None = None) -> Spec:
    """An encoder whose order is in the mixer, with norms before mixer and feed-forward and at the end, of a size that a
    config changes. `first`: the norm of the embedding; where there is one, none stands before the first mixer.
    """
    pre = residual("pre", norm=norm)
    beside = {"residual": residual("pre_after_first", norm=norm), "ffn_residual": pre} if first else {"residual": pre}
    tokens = embedding("tokens", vocab=30522, position=position("none"), norm=first or norms("none"))
    layer = block("sequential", mixer=mixer, ffn=ffn, **beside)
    return encoder("stack", dim=768, heads=12, depth=12, embedding=tokens, blocks=[layer], norm=norm)


def named(table: dict[Any, Any], otherwise: Any) -> Both:
    """Ours by their name, and the name of what ours equals; `otherwise` is the name of all that is not in the table."""
    back = lambda ours: next((name for name, value in table.items() if value == ours), otherwise)  # noqa: E731
    return lambda name: table.get(name, table[otherwise]), back


def shape(keys: str, depth: str = "depth") -> list[Field]:
    """The fields of vocabulary, width, depth, heads and width of the feed-forward, by their keys; `depth` is our path of it."""
    paths = ["embedding.vocab", "dim", depth, "heads", "blocks.0.ffn.hidden"]
    return [at(key, path) for key, path in zip(keys.split(), paths, strict=True)]


SHAPE = shape("vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size")

# of the layers after BERT, none of which has them unless a config says so
BIASES = [
    at("attention_bias", "blocks.0.mixer.bias", "blocks.0.mixer.out_bias", usual=False),
    at("mlp_bias", "blocks.0.ffn.bias", "blocks.0.ffn.out_bias", usual=False),
]
TURNED = mixer("attention", position=position("rope"))  # order by turning queries and keys


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


def rope(
    default: float, path: str = "blocks.0.mixer.position.base", older: str = "rope_theta", kind: str = ""
) -> Field:
    """The base of turned positions at `path`, as newer and older configs say it; `kind`: of layers that have their own."""

    def ours(config: Config) -> float:
        said = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if kind:
            return rope_base(said.get(kind) or {}, config.get(older, default), f" of {kind}")
        return rope_base(said, config.get(older, default))

    return Field("rope_parameters", (path,), ours, lambda spec: {"rope_type": "default", "rope_theta": spec.get(path)})


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


def known(key: str, said: Iterable[str], there: Collection[str], where: str = "") -> None:
    """Raises ValueError for a name that is not there, listing those that are."""
    for name in said:
        if name not in there:
            raise ValueError(f"{key} {name!r} is not supported{where}; there are: {', '.join(there)}")


def fixed(values: Config, where: str = "") -> list[Field]:
    """Keys that say nothing of ours: a config is written with these values, and one that says others is refused."""

    def one(key: str, value: Any) -> Field:
        return Field(key, (), lambda config: only(config, {key: value}, where), lambda spec: value)

    return [one(key, value) for key, value in values.items()]


def layers(spec: Spec) -> list[Spec]:
    """The block of every layer."""
    blocks = spec.get("blocks")
    return [blocks[i % len(blocks)] for i in range(spec.get("depth"))]


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
