"""The list of all methods: what `bertsmith methods` prints and what docs/methods.md is made of.

Nothing is registered anywhere: the rooms are the folders, a method is a file in one, its settings are the keyword-only
arguments of its constructor, and its recipes are the runs that name it.
"""

import functools
import importlib
import inspect
import json
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bertsmith import recipes
from bertsmith.files import write_atomic
from bertsmith.spec import Slot, Spec, find_slot, rooms, to_plain


def methods() -> list[dict[str, Any]]:
    """Every method of every room.

    Returns:
        for each: "kind" ("ffn/mlp"), "room", "says" (the first line of its file), "paper", "settings" (name -> default
        as plain JSON; a required one is absent), "needs" (the required ones) and "recipes" (names of the runs with it).
    """
    used = _kinds_of_recipes()
    return [_describe(find_slot(room), kind, used) for room in rooms() for kind in find_slot(room).kinds()]


def _describe(slot: Slot, kind: str, used: dict[str, set[str]]) -> dict[str, Any]:
    method, schema, name = slot.load(kind), slot.schema(kind), f"{slot.name}/{kind}"
    return {
        "kind": name,
        "room": slot.name,
        "says": first_line(sys.modules[method.__module__].__doc__),
        "paper": method.paper,
        "settings": {n: to_plain(p.default) for n, p in schema.items() if p.default is not p.empty},
        "needs": [n for n, p in schema.items() if p.default is p.empty],
        "recipes": sorted(recipe for recipe, kinds in used.items() if name in kinds),
    }


def first_line(doc: str | None) -> str:
    """The first line of a docstring, without the point at its end."""
    return (doc or "").strip().partition("\n")[0].removesuffix(".")


@functools.cache
def all_recipes() -> dict[str, Callable[..., Any]]:
    """Name -> function, of every function in bertsmith/recipes that returns a Run."""
    found = {}
    for module in pkgutil.iter_modules(recipes.__path__):
        home = importlib.import_module(f"{recipes.__name__}.{module.name}")
        for name, value in vars(home).items():
            if inspect.isfunction(value) and value.__module__ == home.__name__ and not name.startswith("_"):
                returns = inspect.signature(value).return_annotation
                if returns == "Run" or inspect.isclass(returns) and returns.__name__ == "Run":
                    found[name] = value
    return found


def _kinds_of_recipes() -> dict[str, set[str]]:
    """Name of a recipe -> the methods that its run names."""
    with tempfile.TemporaryDirectory() as prepared:  # a recipe reads no more of its data than what the vocabulary is
        special = {name: number for number, name in enumerate(("pad", "unk", "cls", "sep", "mask"))}
        Path(prepared, "manifest.json").write_text(json.dumps({"vocabulary": 30522, "special": special}))
        return {name: set(kinds_in(recipe(prepared))) for name, recipe in all_recipes().items()}


def kinds_in(value: Any) -> Iterator[str]:
    """The names of all methods in a value made of Specs, dataclasses, lists and dicts."""
    if isinstance(value, Spec):
        yield f"{value.slot.name}/{value.kind}"
        value = value.args
    if isinstance(value, list | tuple):
        for member in value:
            yield from kinds_in(member)
    elif isinstance(value, dict):
        for member in value.values():
            yield from kinds_in(member)
    elif type(value).__module__.startswith("bertsmith."):
        yield from kinds_in(vars(value))


def source(paper: str) -> str:
    """A paper as a link where it has an arXiv number, else as it is."""
    number = paper.removeprefix("arXiv:")
    return f"[{paper}](https://arxiv.org/abs/{number})" if number != paper else paper


def markdown() -> str:
    """The text of docs/methods.md."""
    everything = methods()
    lines = [
        "# Methods",
        "",
        f"Every method there is, {len(everything)} in {len(rooms())} rooms. Written by `make docs`; do not edit.",
        'A method is a file: `ffn/mlp` is `bertsmith/ffn/mlp.py`, named in Python `ffn("mlp", hidden=64)`.',
        "Settings in **bold** must be given.",
    ]
    for room in rooms():
        home = importlib.import_module(f"bertsmith.{room}")
        lines += ["", f"## {room}", "", first_line(home.__doc__) + ".", ""]
        lines += ["| method | what | source | settings | recipes |", "|---|---|---|---|---|"]
        for one in (m for m in everything if m["room"] == room):
            settings = [f"**{n}**" for n in one["needs"]] + [f"{n}={_brief(v)}" for n, v in one["settings"].items()]
            cells = (
                f"`{one['kind']}`",
                one["says"],
                source(one["paper"]),
                ", ".join(settings),
                _few(one["recipes"]),
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _brief(value: Any) -> str:
    """A setting's default, a nested method by its name alone."""
    if isinstance(value, dict) and "kind" in value:
        return value["kind"]
    return json.dumps(value)


def _few(recipes: list[str]) -> str:
    """The first names, and how many more; `bertsmith methods --json` has all."""
    return ", ".join(recipes[:4]) + (f" and {len(recipes) - 4} more" if len(recipes) > 4 else "")


def show(found: list[dict[str, Any]]) -> None:
    """Print what `methods` found as a table for each room."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for room in dict.fromkeys(one["room"] for one in found):
        table = Table(
            "method", "what", "source", "settings", title=room, title_justify="left", title_style="bold", box=None
        )
        for one in (m for m in found if m["room"] == room):
            settings = [*one["needs"], *(f"{n}={_brief(v)}" for n, v in one["settings"].items())]
            table.add_row(
                *(cell.replace("[", "\\[") for cell in (one["kind"], one["says"], one["paper"], ", ".join(settings)))
            )
        console.print(table)
        console.print()


if __name__ == "__main__":
    write_atomic(Path(sys.argv[1]), markdown())
