"""What a method of `peft` is, and what all that change layers have alike.

Ours are written as changes: path -> (the spec of the edit or graft that hangs there, its tensors).
"""

from collections.abc import Collection
from typing import ClassVar, NamedTuple

from torch import Tensor

from bertsmith.head import Head
from bertsmith.hf import Config, Turn
from bertsmith.hf.peft.stock import Holder, Layer, StockClass
from bertsmith.hf.peft.targets import targeted
from bertsmith.linear import Edited, tensors
from bertsmith.spec import Spec

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# `peft` itself drops fan_in_fan_out where a layer is none of GPT-2's
OF_LAYERS = "target_modules exclude_modules layers_to_transform layers_pattern fan_in_fan_out"
SAME: Turn = (lambda x: x, lambda x: x)
Change = tuple[Spec, dict[str, Tensor]]
Changes = dict[str, Change]
Held = dict[str, Tensor]  # names in the file, less what stands above the stock class -> tensors


class Method:
    """A type of adapter; a file of this folder.

    Attributes:
        type: its peft_type.
        kinds: what it is here.
        settings: those of its own that are read. Any that stands nowhere here and is not empty is refused.
        unread: those that say nothing of a trained adapter.
        above: what stands before the names of the stock class's tensors in the file.
        shared: tensors before which nothing stands.
    """

    type: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    settings: ClassVar[str]
    unread: ClassVar[str]
    above: ClassVar[str] = "base_model."
    shared: ClassVar[tuple[str, ...]] = ()

    def read(self, config: Config, held: Held, stock: StockClass, model: Holder) -> Changes:
        """What an adapter says; its tensors are taken out of `held`."""
        raise NotImplementedError

    def write(self, changes: Changes, stock: StockClass, model: Holder) -> tuple[Config, Held]:
        """The inverse."""
        raise NotImplementedError

    def refuse(self, stock: StockClass, head: Head | None, paths: Collection[str]) -> None:
        """Raise ValueError where changes at these paths mean something else in a class with that head."""


class Part(NamedTuple):
    """One tensor of an edit: what it is called here, whether it has a row for each output, and the turn between the two."""

    ours: str
    rows: bool
    turn: Turn = SAME


class OfLayers(Method):
    """A method that changes layers, each by tensors of its own. `names`: what these may be called behind the layer's."""

    above = "base_model.model."
    names: ClassVar[tuple[str, ...]]

    def specs(self, config: Config, layers: list[Layer], held: Held) -> list[Spec]:
        """The edit of each layer. What belongs to all of them is taken out of `held`."""
        raise NotImplementedError

    def said(self, layers: list[Layer], specs: list[Spec]) -> tuple[Config, Held]:
        """The inverse."""
        raise NotImplementedError

    def parts(self, spec: Spec, layer: Layer) -> dict[str, Part]:
        """The tensors that a layer must have, by name. ValueError where it cannot have such an edit."""
        raise NotImplementedError

    def merge(self, changes: list[Change]) -> list[Change]:
        """Edits of several of our layers that are one of theirs, so that they say the same where a method can."""
        return changes

    def read(self, config: Config, held: Held, stock: StockClass, model: Holder) -> Changes:
        there = {k.removesuffix(end) for k in held for end in [f".{name}" for name in self.names] if k.endswith(end)}
        if config.get("target_modules") not in (None, "all-linear"):
            editable = {path for path, m in model.encoder.named_modules() if isinstance(m, Edited)}
            there |= {k for k, paths in stock.layers.items() if editable.issuperset(paths)}
            there = {k for k in there if targeted(config, k)}
        if not there:
            raise KeyError(f"{CONFIG} and {WEIGHTS} have no layer of type {self.type} in common")
        layers, changes = [stock.layer(name, model.encoder) for name in sorted(there)], {}
        for layer, spec in zip(layers, self.specs(config, layers, held), strict=True):
            parts = self.parts(spec, layer)
            if missing := [name for name in parts if f"{layer.name}.{name}" not in held]:
                raise KeyError(f"{layer.name} would stay random: {CONFIG} names it, the file lacks its {missing}")
            for name, part in parts.items():
                tensor = part.turn[0](held.pop(f"{layer.name}.{name}"))
                each = layer.cut(tensor) if part.rows else [tensor] * len(layer.paths)
                for path, one in zip(layer.paths, each, strict=True):
                    changes.setdefault(path, (spec, {}))[1][part.ours] = one
        return changes

    def write(self, changes: Changes, stock: StockClass, model: Holder) -> tuple[Config, Held]:
        names = [name for name, paths in stock.layers.items() if not changes.keys().isdisjoint(paths)]
        layers, specs, held = [stock.layer(name, model.encoder) for name in names], [], {}
        if left := sorted(changes.keys() - {path for layer in layers for path in layer.paths}):
            raise ValueError(f"{stock.title} has no layers for the edits at {', '.join(left[:5])}")
        for layer in layers:
            like = next(changes[path][0] for path in layer.paths if path in changes)
            pairs = zip(layer.paths, layer.hosts, strict=True)
            # one that is not changed is as one that has not begun to change
            edits = self.merge([changes.get(p) or (like, tensors(like.build(host.weight))) for p, host in pairs])
            spec, first = edits[0]
            parts = self.parts(spec, layer)
            whole = [part.ours for part in parts.values() if not part.rows]
            if any(other != spec or any(not x[k].equal(first[k]) for k in whole) for other, x in edits):
                raise ValueError(f"{layer.name} is one layer in peft: {layer.paths} must have the same {spec.kind}")
            for name, part in parts.items():
                tensor = layer.join([x[part.ours] for _, x in edits]) if part.rows else first[part.ours]
                held[f"{layer.name}.{name}"] = part.turn[1](tensor)
            specs.append(spec)
        config, shared = self.said(layers, specs)
        return config | {"target_modules": sorted(names)}, held | shared

    def refuse(self, stock: StockClass, head: Head | None, paths: Collection[str]) -> None:
        """`peft` leaves the token table alone where a head writes with it; our edits are of the table itself."""
        if head is not None and head.speaks and "embedding.table" in paths:
            raise ValueError("an edit of the token table also changes the head that reads it here, in peft it does not")
