"""Labelled sets of the field as tasks: official splits, the metric that is reported of them, whose they are.

A set is a function that takes a `Shelf` and returns a `TaskSet`; the function's name is the set's. The texts are in archives
of the user's, NAME.tar.xz in one folder: nothing is fetched and none of them ships.
"""

import hashlib
import importlib
import inspect
import json
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertsmith.draw import draw
from bertsmith.examples import Columns, Examples
from bertsmith.sets.shelf import Shelf
from bertsmith.spec import Spec
from bertsmith.split import cut
from bertsmith.splits import Ask, label_space, make_splits
from bertsmith.table import Say, aloud

SHARE = 0.1  # of what is cut, for a split that the archive lacks
SEED = 0  # of the splits that are cut: they are the same whatever the seed of a run

# further scores from the answers to the test examples (as raw labels are written), in their order
Also = Callable[[list[Any]], dict[str, float]]


@dataclass(frozen=True)
class TaskSet:
    """A set, ready to be learnt.

    Attributes:
        kind: sets of one kind make one number of an aggregate: "sentences", "intents", "pairs", "similarity", "emotions",
            "entities", "relations", "answers", "keyphrases" or "syntax".
        metric: the main score: one of the task's metrics or of `also`.
        made: how the splits came about, in words.
        max_length: tokens of a row.
        also: scores beyond those of the task.
        shown: what the main score is called where its name says too little.
        said: what was remarked while reading.
    """

    name: str
    kind: str
    task: Spec
    metric: str
    train: Examples
    valid: Examples
    test: Examples
    made: str
    citation: str
    licence: str
    max_length: int = 128
    also: Also | None = None
    shown: str = ""
    said: tuple[str, ...] = ()

    def limited(self, limit: int | None, seed: int = SEED) -> "TaskSet":
        """With at most `limit` examples to train on, and as many to choose by; the test split stays whole."""
        if limit is None:
            return self
        train, valid = (some(x, limit, seed) for x in (self.train, self.valid))
        lost = [
            f"{len(now)} of {len(all_of_them)} {name}"
            for name, now, all_of_them in (("train", train, self.train), ("valid", valid, self.valid))
            if len(now) < len(all_of_them)
        ]
        made = self.made + (f"; of these {' and '.join(lost)} by a hash of the text (seed {seed})" if lost else "")
        return replace(self, train=train, valid=valid, made=made)

    def digest(self) -> str:
        """What tells these examples from others."""
        parts = [[x.text, x.pair, x.label] for x in (self.train, self.valid, self.test)]
        return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=8).hexdigest()


def some(examples: Examples, limit: int, seed: int) -> Examples:
    """At most `limit` examples, in their order: those whose texts draw the smallest numbers. A function of texts and seed."""
    keys = examples.keys()
    rows = sorted(range(len(keys)), key=lambda i: (draw(seed, "limit", keys[i]), i))[:limit]
    return examples.take(sorted(rows))


def cut_off(
    examples: Examples, what: str, classes: list[str] | None, share: float = SHARE
) -> tuple[Examples, Examples]:
    """(the rest, a share) of examples, by a hash of the text; equal texts stay together, classes keep their proportions."""
    kept, off = cut(examples.keys(), classes, share, SEED, what)
    return examples.take(kept), examples.take(off)


def with_valid(whole: Examples, test: Examples) -> tuple[Examples, Examples, Examples]:
    """(train, valid, test) of a set that has no split to choose by: a share of what there is to train on, classes as in it."""
    return *cut_off(whole, "valid", whole.label), test


def own(
    name: str,
    source: Any,
    valid: Any = None,
    test: Any = None,
    text: str | None = None,
    pair: Columns | None = None,
    label: Columns | None = None,
    group: str | None = None,
    task: Spec | None = None,
    metric: str = "",
    kind: str = "own",
    max_length: int = 128,
    say: Say = aloud,
) -> TaskSet:
    """A set of the user's: labelled texts as `finetune` takes them, with the splits that it would make.

    metric: the main score; "": the first of the task's metrics. kind: with which sets it counts as one (see `TaskSet`).
    """
    splits, task = make_splits(source, valid, test, Ask(text, pair, label, group), task, SEED, say)
    labels, settled = label_space(splits, task, say)
    main = metric or settled.build(labels).metrics().main
    parts = (splits.train, splits.valid, splits.test)
    return TaskSet(name, kind, task, main, *parts, splits.made, "the user's own", "the user's", max_length)


def names() -> list[str]:
    """The sets there are."""
    return sorted(_makers())


def read(name: str, data: str | Path | None = None, cache: str | Path | None = None) -> TaskSet:
    """A set by name.

    Args:
        data: the folder of the archives, or one with such a folder "tasks" in it; None: $BERTSMITH_DATA.
        cache: a folder in which what is unpacked stays for the next time; None: it is gone afterwards.

    Raises:
        FileNotFoundError: its archive is not there. ValueError: no such set, no folder, or an archive that is not what it
            should be.
    """
    makers = _makers()
    if name not in makers:
        raise ValueError(f"no set {name!r}; there are: {', '.join(sorted(makers))}")
    with Shelf(find(data), cache) as shelf:
        made = makers[name](shelf)
        return replace(made, said=tuple(line.replace(f"{shelf.cache}{os.sep}", "") for line in made.said))


def find(data: str | Path | None = None) -> Path:
    """The folder of the archives. ValueError if none is named, FileNotFoundError if it is not there."""
    said = data or os.environ.get("BERTSMITH_DATA")
    if not said:
        raise ValueError("say where the data are: --data FOLDER, or set the environment variable BERTSMITH_DATA")
    folder = Path(said)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}")
    return folder / "tasks" if (folder / "tasks").is_dir() else folder


def _makers() -> dict[str, Callable[[Shelf], TaskSet]]:
    found: dict[str, Callable[[Shelf], TaskSet]] = {}
    for module in pkgutil.iter_modules(__path__):
        held = vars(importlib.import_module(f"{__name__}.{module.name}"))
        for name, made in held.items():
            if inspect.isfunction(made) and made.__annotations__.get("return") is TaskSet and not name.startswith("_"):
                found[name] = made
    return found
