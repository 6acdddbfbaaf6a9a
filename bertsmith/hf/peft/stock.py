"""The stock class that an adapter is for: its names, and which of our layers each of its layers is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bertsmith import hf
from bertsmith.encoder import Encoder
from bertsmith.hf import BARE, Config, Turn
from bertsmith.linear import Edited, Embedding
from bertsmith.spec import Spec
from bertsmith.tokenizer.roles import special_ids

# task_type -> how the stock class ends
TASKS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "FEATURE_EXTRACTION": "Model",
}


class Holder(Protocol):
    """What a `Model` has of all this."""

    spec: Spec
    bundle: Any
    head_spec: Spec | None
    task: Spec | None
    labels: list[str]
    max_length: int
    origin: Config
    tokenizer: Tokenizer

    @property
    def encoder(self) -> Encoder: ...


def find_class(model: Holder, head: Spec | None) -> Config | None:
    """The config.json of a stock class that holds the model's encoder with a head; None if none does."""
    return hf.find_stock(model.spec, head, model.origin, special_ids(model.tokenizer, ("pad",))["pad"])


class StockClass:
    """How the class that a config.json names ends, and its tensors' names -> ours with the turn between them."""

    def __init__(self, config: Config):
        family = hf.family_of(config)
        self.config, self.family, self.ending = config, family, family.architecture(config)
        self.bare, self.title = self.ending in BARE, family.types[config["model_type"]] + self.ending
        self.rows: dict[str, tuple[tuple[str, ...], Turn | None]] = {}
        self.layers: dict[str, list[str]] = {}  # -> paths in the encoder, or "head. ..."
        for ours, theirs, turn in family.table(config, self.ending):
            theirs = theirs.removeprefix(family.prefix) if self.bare else theirs
            self.rows[theirs] = ours, turn
            if theirs.endswith(".weight"):
                paths = [path.removeprefix("encoder.").removesuffix(".weight") for path in ours]
                self.layers[theirs.removesuffix(".weight")] = paths

    def layer(self, name: str, encoder: Encoder) -> "Layer":
        """One of its layers. Raises ValueError where it cannot be edited here as it is there."""
        paths = self.layers.get(name)
        if paths is None:
            raise ValueError(f"{self.title} has no layer {name} here")
        if any(path.startswith("head.") for path in paths):
            raise ValueError(
                f"{name} is in the head, and edits hang on the encoder: train without it, or save it whole"
            )
        modules = dict(encoder.named_modules(remove_duplicate=False))
        hosts: list[Any] = [modules.get(path) for path in paths]
        if not all(isinstance(host, Edited) for host in hosts):
            raise ValueError(f"{name} is {', '.join(paths)} here, which takes no edits")
        return Layer(name, paths, hosts, _places(name, hosts, self.rows[f"{name}.weight"][1]))


@dataclass
class Layer:
    """A layer of theirs, the layers of ours that it is, and which of its rows each of these is."""

    name: str
    paths: list[str]
    hosts: list[Any]
    places: Sequence[Tensor]

    @property
    def table(self) -> bool:
        """Whether it is a table of embeddings."""
        return isinstance(self.hosts[0], Embedding)

    @property
    def same(self) -> bool:
        """Whether it is one layer here, too, with its rows in the same order."""
        return len(self.hosts) == 1 and torch.equal(self.places[0], torch.arange(len(self.places[0])))

    def cut(self, tensor: Tensor) -> list[Tensor]:
        """What belongs to each of ours, of a tensor with a row for each output."""
        if len(tensor) != (rows := sum(map(len, self.places))):
            raise KeyError(f"{self.name}: a tensor of {len(tensor)} rows in the file, for {rows} outputs")
        return [tensor[places] for places in self.places]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `cut`."""
        made = torch.cat(list(parts))
        return torch.empty_like(made).index_copy_(0, torch.cat(list(self.places)).to(made.device), made)


def _places(name: str, hosts: Sequence[Any], turn: Turn | None) -> Sequence[Tensor]:
    """Which rows of theirs are those of each of ours. Raises ValueError if more than the order of rows differs."""
    sizes = [len(host.weight) for host in hosts]
    number = torch.arange(sum(sizes))
    if turn is None:
        return number.split(sizes)
    weight = number[:, None].repeat(1, hosts[0].weight.shape[1])  # one that has its rows' numbers in it, there and back
    try:
        made = turn[0](weight)
        parts: list[Tensor] = [made] if isinstance(made, Tensor) else list(made)
        fine = all(x.shape == h.weight.shape and bool((x == x[:, :1]).all()) for x, h in zip(parts, hosts, strict=True))
        if fine and torch.equal(turn[1](parts if len(parts) > 1 else parts[0]), weight):
            return [x[:, 0] for x in parts]
    except (RuntimeError, IndexError, ValueError):
        pass
    raise ValueError(f"{name} is stored in another shape than here, so its adapter cannot be read or written")
