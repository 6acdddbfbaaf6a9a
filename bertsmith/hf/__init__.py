"""Other libraries' checkpoints: one file per family, with a weight table that is read in both directions.

A file in this folder that assigns `FAMILY` is a family; there is no other list.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bertsmith.spec import Spec, to_plain

Config = dict[str, Any]
Turn = tuple[Callable[..., Any], Callable[..., Tensor]]
# (ours, theirs) or (ours, theirs, (to ours, to theirs)); `{i}` stands for the layer. Several of ours may make one of
# theirs: by default they are its equal parts along the first axis, as in a fused q, k, v.
Row = tuple[str, str] | tuple[tuple[str, ...], str] | tuple[str | tuple[str, ...], str, Turn]
BARE = ("Model", "BaseModel", "EncoderModel")  # endings of classes with no head; their tensors bear no prefix
TRANSPOSED: Turn = (Tensor.t, Tensor.t)

# names of activations: theirs -> ours, the first of each being what we write
ACTS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "relu2": "squared_relu",
}


def both(ours: str, theirs: str) -> list[Row]:
    """The rows of a weight and its bias."""
    return [(f"{ours}.{p}", f"{theirs}.{p}") for p in ("weight", "bias")]


def each(ours: str, theirs: str, parts: dict[str, str]) -> list[Row]:
    """The rows of weights and biases of many parts, {"mixer.q": "attention.query"}, below a place of ours and theirs.

    {"mixer.q mixer.k": "attention.qk"}: several of ours make one of theirs.
    """
    made: list[Row] = []
    for names, name in parts.items():
        if " " not in names:
            made += both(ours + names, theirs + name)
            continue
        for p in ("weight", "bias"):
            made.append((tuple(f"{ours}{one}.{p}" for one in names.split()), f"{theirs}{name}.{p}"))
    return made


def layer_rows(theirs: str, mixer: str, ffn: str) -> list[Row]:
    """The rows of every layer, by their names below `theirs` in our order; those of one name are parts of one tensor.

    `mixer`: queries, keys, values, output and the norm beside them; `ffn`: the gate where there is one, up, down and its norm.
    """
    parts = "mixer.q mixer.k mixer.v mixer.out mixer_residual.norm ffn.gate ffn.up ffn.down ffn_residual.norm".split()
    ours: dict[str, list[str]] = {}
    if len(ffn.split()) == 3:
        parts.remove("ffn.gate")
    for name, part in zip(f"{mixer} {ffn}".split(), parts, strict=True):
        ours.setdefault(name, []).append(part)
    return each("encoder.layers.{i}.", theirs, {" ".join(some): name for name, some in ours.items()})


def by_heads(count: int) -> Turn:
    """A projection to heads [D, N, H] to ours, [N H, D], and back."""
    return lambda x: x.flatten(1).t(), lambda x: x.t().unflatten(1, (count, -1))


def act_of(theirs: str) -> str:
    """Our name of an activation. Raises ValueError, listing those we have."""
    if theirs not in ACTS:
        raise ValueError(f"no activation {theirs!r}; there are: {', '.join(ACTS)}")
    return ACTS[theirs]


def act_back(ours: Any) -> str:
    """Their name of an activation. Raises ValueError for one that they do not have."""
    for name, kind in ACTS.items():
        if ours == kind:
            return name
    raise ValueError(f"the other library has no activation {to_plain(ours)!r}")


@dataclass(frozen=True)
class Stock:
    """What stands on the encoder in one stock class.

    Attributes:
        head: the config -> our head, or None.
        rows: its tensors, under the full names of the stock class. A function of the config where they differ.
        config: our head -> the fields of the config that it adds.
    """

    head: Callable[[Config], Spec | None]
    rows: Sequence[Row] | Callable[[Config], Sequence[Row]] = ()
    config: Callable[[Spec], Config] = lambda head: {}

    def table(self, config: Config) -> Sequence[Row]:
        """The rows of the class that a config says."""
        return self.rows(config) if callable(self.rows) else self.rows


@dataclass(frozen=True)
class Family:
    """An architecture of `transformers`, as a value of ours.

    Attributes:
        types: model_type of config.json -> how its classes begin: {"bert": "Bert"}. Those of one family differ by name only.
        prefix: of the encoder's tensors inside a class with a head, "bert.".
        spec: config -> encoder. Raises ValueError, naming what we do not have.
        config: encoder -> config. Raises ValueError, naming what the stock class cannot hold; it need not check all:
            a config is accepted if `spec` makes the same encoder of it.
        rows: config -> the table of the encoder's tensors, ours beginning with "encoder.", theirs without the prefix.
        stocks: how a class ends, "ForMaskedLM" -> what it holds beside the encoder. The first is the bare one.
        unused: parts of names of tensors that say nothing (counters, copies of tied tables).
        layers: config -> what stands for `{i}` in our names and in theirs, for each layer that has weights of its own; None
            where it is the number of the layer in both.
    """

    types: dict[str, str]
    prefix: str
    spec: Callable[[Config], Spec]
    config: Callable[[Spec], Config]
    rows: Callable[[Config], Sequence[Row]]
    stocks: dict[str, Stock]
    unused: tuple[str, ...] = field(default=("position_ids",))
    layers: Callable[[Config], Sequence[tuple[str, str]]] | None = None

    def architecture(self, config: Config) -> str:
        """How the class that a config names ends. Raises ValueError, listing those that we open."""
        start = self.types[config["model_type"]]
        name = (config.get("architectures") or [start + next(iter(self.stocks))])[0]
        ending = name.removeprefix(start)
        if ending not in self.stocks:
            known = ", ".join(start + s for s in self.stocks)
            raise ValueError(f"{name} is not opened; of {config['model_type']} there are: {known}")
        return ending

    def table(self, config: Config, ending: str) -> list[tuple[tuple[str, ...], str, Turn | None]]:
        """All rows of a class, spelt out: (ours, theirs, turn)."""
        full = [(row[0], self.prefix + row[1], *row[2:]) for row in self.rows(config)]
        full += list(self.stocks[ending].table(config))
        depth = self.spec(config).args.get("depth", 1)
        layers = self.layers(config) if self.layers else [(str(i), str(i)) for i in range(depth)]
        out: list[tuple[tuple[str, ...], str, Turn | None]] = []
        for ours, theirs, *turn in full:
            names = (ours,) if isinstance(ours, str) else ours
            for here, there in layers if "{i}" in theirs else [("", "")]:
                spelt = tuple(n.replace("{i}", here) for n in names)
                out.append((spelt, theirs.replace("{i}", there), turn[0] if turn else None))
        return out


def families() -> dict[str, Family]:
    """model_type -> family, of every file in this folder."""
    return _families()


@cache
def _families() -> dict[str, Family]:
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return {t: f for module in modules for f in [vars(module).get("FAMILY")] if f is not None for t in f.types}


def family_of(config: Config) -> Family:
    """The family of a config.json. Raises ValueError, listing those that there are."""
    kind = config.get("model_type")
    if kind not in families():
        raise ValueError(f"model_type {kind!r} cannot be opened; there are: {', '.join(sorted(families()))}")
    return families()[kind]


def read(config: Config, theirs: dict[str, Tensor]) -> tuple[Spec, Spec | None, dict[str, Tensor]]:
    """(encoder spec, head spec or None, tensors under our names encoder.* and head.*).

    Raises KeyError naming tensors that have no place here: nothing is dropped in silence. ValueError as `Family.spec`.
    """
    family = family_of(config)
    ending, spec = family.architecture(config), family.spec(config)
    old = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    left: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        for before, after in old.items():
            name = name.replace(before, after)
        left[name] = tensor
    table, ours = family.table(config, ending), {}
    bare = {name.removeprefix(family.prefix): name for _, name, _ in table}
    left = {bare.get(name, name) if name not in bare.values() else name: x for name, x in left.items()}
    for names, name, turn in table:
        if name in left:
            ours.update(zip(names, _turned(left.pop(name), names, turn), strict=True))
    stock = family.stocks[ending]
    head = stock.head(config)
    if ending in BARE and not any(k.startswith("head.") for k in ours):
        head = None
    lost = {k for k in left if not any(part in k for part in family.unused)}
    tokens = ours.get("encoder.embedding.table.weight")
    for name in left.keys() - lost:
        if tokens is not None and left[name].shape == tokens.shape and not torch.equal(left[name], tokens):
            raise ValueError(f"{name} differs from the token table: output tables of their own are not supported here")
    if ending not in BARE:
        lost = {k for k in lost if "pooler." not in k}  # a pooler that the named class does not use
    if lost:
        raise KeyError(
            f"tensors of {family.types[config['model_type']]}{ending} with no place here: {sorted(lost)[:5]}"
        )
    return spec, head, ours


def _turned(tensor: Tensor, names: tuple[str, ...], turn: Turn | None) -> Sequence[Tensor]:
    if turn is not None:
        made = turn[0](tensor)
        return [made] if isinstance(made, Tensor) else made
    return tensor.chunk(len(names)) if len(names) > 1 else [tensor]


def to_stock(
    spec: Spec, head: Spec | None, model_type: str, origin: Config | None = None, pad: int | None = None
) -> Config:
    """The config.json of the stock class that holds this encoder and head.

    `origin`: a config that it came from; where it still says the same, it is kept as it is. `pad`: the tokenizer's id
    of padding, which the config shall say; RoBERTa's kin count positions from it, so that another encoder comes of it.

    Raises ValueError naming what the stock class cannot hold.
    """
    family, plain = families()[model_type], spec.replace("init", None)
    for made in _candidates(family, spec, model_type, origin, pad):
        if (found := _first_difference(family.spec(made).replace("init", None), plain)) is not None:
            continue
        for ending, stock in family.stocks.items():
            config = made | {"model_type": model_type, "architectures": [family.types[model_type] + ending]}
            if _first_difference(family.spec(config).replace("init", None), plain) is not None:
                continue  # the class itself says something else of the encoder (Longformer's classifier)
            if head is None and ending in BARE or head is not None and stock.head(config) == head:
                return config
            if head is not None and _same_kind(stock, made, head):
                config |= stock.config(head)
                same = _first_difference(family.spec(config).replace("init", None), plain) is None
                if same and stock.head(config) == head:
                    return config
        shown = "no head" if head is None else f"{head.slot.name}/{head.kind} with {to_plain(head.args)}"
        hint = (
            "; their classifiers read BERT's pooler: tune with pool='bert' (--pool bert)"
            if "pool/mean" in shown
            else ""
        )
        raise ValueError(f"no class of {model_type} holds {shown}; there are: {', '.join(family.stocks)}{hint}")
    raise ValueError(f"{model_type} cannot hold {found}")


def _candidates(family: Family, spec: Spec, model_type: str, origin: Config | None, pad: int | None) -> list[Config]:
    kept = origin if origin and origin.get("model_type") == model_type else {}
    made = kept | family.config(spec) | {"model_type": model_type}
    padded = {} if pad is None else {"pad_token_id": pad}
    return [c | padded for c in ([kept, made] if kept else [made])]


def _same_kind(stock: Stock, config: Config, head: Spec) -> bool:
    like = stock.head(config)
    return like is not None and like.kind == head.kind


def _first_difference(theirs: Any, ours: Any, path: str = "") -> str | None:
    """Where two specs first differ, in words; None if they do not."""
    if isinstance(theirs, Spec) and isinstance(ours, Spec) and theirs.kind == ours.kind:
        pairs = [(f"{path}.{k}".lstrip("."), theirs.args[k], ours.args[k]) for k in ours.args]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = [(f"{path}.{i}", a, b) for i, (a, b) in enumerate(zip(theirs, ours, strict=True))]
    else:
        if theirs == ours:
            return None
        return f"{path or 'the encoder'} = {_short(ours)} (it has {_short(theirs)})"
    return next((found for p, a, b in pairs if (found := _first_difference(a, b, p)) is not None), None)


def _short(value: Any) -> str:
    return f"{value.slot.name}/{value.kind}" if isinstance(value, Spec) else repr(to_plain(value))


def find_stock(spec: Spec, head: Spec | None, origin: Config | None = None, pad: int | None = None) -> Config | None:
    """The config.json of a stock class that holds this, that of `origin` first and BERT's next; None if none does."""
    first = [(origin or {}).get("model_type"), "bert"]
    for kind in [*(k for k in first if k in families()), *(k for k in families() if k not in first)]:
        try:
            return to_stock(spec, head, kind, origin, pad)
        except ValueError:
            continue
    return None


def write(config: Config, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors (encoder.*, head.*) under the names of the class that `config` names. Raises KeyError for others."""
    family = family_of(config)
    ending = family.architecture(config)
    theirs, left = {}, dict(ours)
    for names, name, turn in family.table(config, ending):
        if all(n in left for n in names):
            parts = [left.pop(n) for n in names]
            made = turn[1](parts[0] if len(parts) == 1 else parts) if turn else parts[0] if len(parts) == 1 else None
            name = name.removeprefix(family.prefix) if ending in BARE else name
            theirs[name] = (torch.cat(parts) if made is None else made).contiguous()
    if left:
        raise KeyError(f"the stock class cannot hold {sorted(left)[:5]}")
    return theirs
