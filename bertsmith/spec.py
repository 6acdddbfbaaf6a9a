"""A Spec names one method and its settings: the folder is the registry, the constructor is the schema.

`bertsmith/ffn/glu.py` *is* `ffn/glu`; the keyword-only arguments of its one class *are* its settings.

    spec = ffn("glu", hidden=1152)       # checked at once; every default written out
    spec.build(768)                      # the module; positional arguments are context given by the builder
    spec.to_dict()                       # {"kind": "ffn/glu", "hidden": 1152, ...}, plain JSON, there and back
"""

import importlib
import inspect
import json
import pkgutil
from dataclasses import dataclass, field
from typing import Any

ROOT = __name__.rpartition(".")[0]


class Slot:
    """A place in the toolkit that one method fills.

    Calling it, `ffn("glu", hidden=64)`, checks the settings and gives a Spec.

    Args:
        package: the import path of the room (`__name__` in its `__init__.py`).
        base: the room's base class; a method file defines exactly one subclass of it.
        aliases: old kind -> new kind, so that a renamed method still opens old checkpoints.
    """

    def __init__(self, package: str, base: type, aliases: dict[str, str] | None = None):
        self.package, self.base, self.aliases = package, base, aliases or {}
        self.name = package.removeprefix(ROOT + ".")

    def __repr__(self) -> str:
        return f"Slot({self.name})"

    def kinds(self) -> list[str]:
        """The methods in this room: the names of its files."""
        path = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))

    def load(self, kind: str) -> type:
        """The class of a method. Raises ValueError, listing what exists, when there is none of that name."""
        kind = self.aliases.get(kind, kind)
        if kind not in self.kinds():
            raise ValueError(f"no {self.name} method {kind!r}; there are: {', '.join(self.kinds()) or 'none'}")
        module = importlib.import_module(f"{self.package}.{kind}")
        mine = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        found = [c for c in mine if issubclass(c, self.base)]
        if len(found) != 1:
            raise TypeError(f"{module.__name__} must define exactly one {self.base.__name__}, it defines {len(found)}")
        return found[0]

    def schema(self, kind: str) -> dict[str, inspect.Parameter]:
        """Setting name -> parameter: the keyword-only arguments of the method's constructor."""
        params = inspect.signature(self.load(kind).__init__).parameters.values()
        return {p.name: p for p in params if p.kind is p.KEYWORD_ONLY}

    def __call__(self, kind: str, **settings: Any) -> "Spec":
        """A checked Spec. Raises TypeError for unknown or missing settings, naming those that exist, and for numbers that
        are none."""
        kind = self.aliases.get(kind, kind)
        schema = self.schema(kind)
        if unknown := sorted(set(settings) - set(schema)):
            raise TypeError(
                f"{self.name}/{kind} has no setting {', '.join(unknown)}; it has: {', '.join(schema) or 'none'}"
            )
        defaults = {n: p.default for n, p in schema.items() if p.default is not p.empty}
        if missing := sorted(set(schema) - set(settings) - set(defaults)):
            raise TypeError(f"{self.name}/{kind} needs {', '.join(missing)}; its settings: {', '.join(schema)}")
        given = defaults | settings
        args = {n: _plain(given[n], f"{self.name}/{kind}.{n}") for n in schema}
        for name in settings:
            wanted = getattr(schema[name].annotation, "__name__", schema[name].annotation)
            if wanted in ("int", "float") and (isinstance(args[name], bool) or not isinstance(args[name], int | float)):
                raise TypeError(f"{self.name}/{kind}.{name} is a number; got {args[name]!r}")
        return Spec(self, kind, args)


@dataclass(frozen=True)
class Spec:
    """One method and all its settings. Values are plain JSON, Specs, or lists and dicts of these."""

    slot: Slot = field(repr=False)
    kind: str
    args: dict[str, Any]

    def build(self, *context: Any) -> Any:
        """Construct the piece; `context` is what the slot's builder knows (widths, paths)."""
        return self.slot.load(self.kind)(*context, **self.args)

    def get(self, path: str) -> Any:
        """The value at a dotted path: `spec.get("blocks.0.ffn.hidden")`."""
        return _get(self, path.split("."), path)

    def replace(self, path: str, value: Any) -> "Spec":
        """A copy with another value at a dotted path; `*` takes every member of a list: `"blocks.*.ffn.hidden"`."""
        return _replace(self, path.split("."), value, path)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON with every default written out."""
        return {"kind": f"{self.slot.name}/{self.kind}"} | {k: to_plain(v) for k, v in self.args.items()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Spec":
        """The Spec of what `to_dict` wrote. Raises ValueError on an unknown room or kind."""
        spec = from_plain(data)
        if not isinstance(spec, Spec):
            raise ValueError(f"not a description of a method (it has no 'kind'): {data!r:.200}")
        return spec


def to_plain(value: Any) -> Any:
    """Specs inside lists and dicts to plain JSON."""
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, list):
        return [to_plain(v) for v in value]
    return {k: to_plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`."""
    if isinstance(value, list):
        return [from_plain(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "kind" not in value:
        return {k: from_plain(v) for k, v in value.items()}
    room, _, kind = str(value["kind"]).partition("/")
    return find_slot(room)(kind, **{k: from_plain(v) for k, v in value.items() if k != "kind"})


def find_slot(room: str) -> Slot:
    """The slot of a room. Raises ValueError, listing the rooms, when there is none."""
    if room in rooms():
        return _slots(room)[0]
    raise ValueError(f"no room {room!r}; there are: {', '.join(rooms())}")


def rooms() -> list[str]:
    """The names of all rooms that hold a slot."""
    names = [m.name for m in pkgutil.iter_modules(importlib.import_module(ROOT).__path__) if m.ispkg]
    return [n for n in names if _slots(n)]


def _slots(package: str) -> list[Slot]:
    """The slot that a package makes, not those that it imports."""
    held = vars(importlib.import_module(f"{ROOT}.{package}")).values()
    return [v for v in held if isinstance(v, Slot) and v.name == package]


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v, where) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v, where) for k, v in value.items()}
    if value is None or isinstance(value, Spec | bool | int | float | str):
        return value
    raise TypeError(f"{where}: a setting is plain JSON or a Spec, so that it can be saved; got {type(value).__name__}")


def _members(node: Any, key: str, path: str) -> dict[Any, Any]:
    """The children of a node that one name of a dotted path means."""
    if isinstance(node, Spec):
        if key not in node.args:
            raise ValueError(f"{path!r}: {node.slot.name}/{node.kind} has no {key!r}; it has: {', '.join(node.args)}")
        return {key: node.args[key]}
    if isinstance(node, list):
        if key == "*":
            return dict(enumerate(node))
        if key.lstrip("-").isdigit() and -len(node) <= int(key) < len(node):
            return {int(key) % len(node): node[int(key)]}
        raise ValueError(f"{path!r}: {key!r} is no place in a list of {len(node)}; use 0 to {len(node) - 1}, or *")
    if isinstance(node, dict) and key in node:
        return {key: node[key]}
    raise ValueError(f"{path!r}: nothing stands below {key!r} in {node!r:.80}")


def _get(node: Any, keys: list[str], path: str) -> Any:
    for key in keys:
        node = next(iter(_members(node, key, path).values()))
    return node


def _replace(node: Any, keys: list[str], value: Any, path: str) -> Any:
    if not keys:
        return value
    new = {k: _replace(old, keys[1:], value, path) for k, old in _members(node, keys[0], path).items()}
    if isinstance(node, Spec):
        return node.slot(node.kind, **(node.args | new))
    return [new.get(i, old) for i, old in enumerate(node)] if isinstance(node, list) else node | new


def named_spec(room: str, said: str) -> Spec:
    """The spec that a word of a command line means: "ordinal", "tagging:scheme=bilou,stride=16". Settings are JSON or text.

    Raises ValueError, listing what there is, for a kind or a setting that is not known.
    """
    kind, _, rest = said.partition(":")
    settings: dict[str, Any] = {}
    while rest:
        key, sign, rest = rest.partition("=")
        if not sign or "," in key:
            raise ValueError(f"cannot read {key!r} of {said!r}: settings are KEY=VALUE with commas between them")
        try:  # JSON may have commas of its own
            value, end = json.JSONDecoder().raw_decode(rest)
        except json.JSONDecodeError:
            end = 0
        if rest[end : end + 1] not in ("", ",") or not end:
            end = (rest + ",").index(",")
            value = rest[:end]
        settings[key], rest = from_plain(value), rest[end + 1 :]
    try:
        return find_slot(room)(kind, **settings)
    except TypeError as error:  # what is a slip in a program is a user's mistake here
        raise ValueError(str(error)) from None
