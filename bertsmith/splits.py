"""The examples to train on, to choose by and to report, out of what the user gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertsmith.examples import Columns, Examples, cells, find_columns, guess_task, read_examples, take_examples
from bertsmith.spec import Spec
from bertsmith.split import cut
from bertsmith.table import Say, read_table

SHARE = 0.1  # of the examples, for each of valid and test, where they are not given
FEWEST = 10  # examples from which splits can be made


@dataclass(frozen=True)
class Splits:
    """The three sets of examples, and how they came about, in words."""

    train: Examples
    valid: Examples
    test: Examples
    made: str


@dataclass(frozen=True)
class Ask:
    """Which columns of a table are meant; None is guessed, aloud.

    group: a column whose equal cells never stand on both sides of a split (participants, articles).
    """

    text: str | None = None
    pair: Columns | None = None
    label: Columns | None = None
    group: str | None = None


def make_splits(
    source: Any, valid: Any, test: Any, ask: Ask, task: Spec | None, seed: int, tell: Say
) -> tuple[Splits, Spec]:
    """Read what was given, settle columns and task, and cut what splits are not given.

    Args:
        source, valid, test: what `read_table` takes, or Examples.

    Raises ValueError or KeyError, naming the table, where it does not serve.
    """
    name, train, groups, meant, read = _read_train(source, ask, task, tell)
    given = {which: read(one) for which, one in (("valid", valid), ("test", test)) if one is not None}
    blank, made = meant.build([]), "splits as given"
    if missing := [which for which in ("test", "valid") if which not in given]:
        if len(train) < FEWEST:
            raise ValueError(f"{name} has {len(train)} rows: too few to split; give valid= and test=, or {FEWEST} rows")
        for which in missing:
            share = SHARE if len(missing) == 1 or which == "test" else SHARE / (1 - SHARE)
            kept, off = cut(groups or train.keys(), None if groups else blank.strata(train.label), share, seed, which)
            if not off:
                raise ValueError(
                    f"{name}: too few different texts, of each label where there are labels, to cut off a {which} split; "
                    f"give {which}="
                )
            given[which], train = train.take(off), train.take(kept)
            groups = [groups[i] for i in kept] if groups else None
        made = f"{' and '.join(missing)} cut from the table by a hash of the {ask.group or 'text'} (seed {seed})"
        made += ", stratified by label" if not groups and blank.strata(train.label) else ""
    splits = Splits(train, given["valid"], given["test"], made)
    tell(f"splits: {len(train)} train, {len(splits.valid)} valid, {len(splits.test)} test; {made}")
    known = set(train.keys())
    if leaked := sum(key in known for key in splits.test.keys()):
        tell(f"{leaked} of {len(splits.test)} test texts also stand in train")
    return splits, meant


def _read_train(
    source: Any, ask: Ask, task: Spec | None, tell: Say
) -> tuple[str, Examples, list[str] | None, Spec, Callable[[Any], Examples]]:
    """(its name, examples, their groups or None, the task, how the other splits are read)."""
    if (labelled := read_examples(source, tell, task)) is not None:
        examples, meant = labelled
        if task is None:
            task = meant
            tell(f"task: {task.kind}")

        def same(one: Any) -> Examples:
            again = read_examples(one, tell, task)
            if again is None:
                raise ValueError(
                    f"{one} is a table, but the texts to train on are labelled spans: give all in one form"
                )
            return again[0]

        return "the examples", examples, None, task, same
    table = read_table(source, say=tell)
    text, pair, label = find_columns(table, ask.text, ask.pair, ask.label, tell)
    if task is None:
        task = guess_task(cells(table, label))
        tell(f"{table.name}: task guessed from {label!r}: {task.kind}")
    several = task.build([]).may_be_empty

    def read(one: Any) -> Examples:
        if isinstance(one, Examples):
            return one
        return take_examples(read_table(one, say=tell), text, pair, label, unlabelled=several, say=tell)

    if ask.group is None:
        return table.name, take_examples(table, text, pair, label, unlabelled=several, say=tell), None, task, read
    # the groups go through the same sieve as the texts, so that rows that are left out take theirs along
    both = take_examples(table, text, pair, [ask.group, *([label] if isinstance(label, str) else label)], say=tell)
    labels = [x[1] if isinstance(label, str) else x[1:] for x in both.label]
    examples = Examples(both.text, both.pair, labels)
    keep = [i for i, x in enumerate(labels) if several or not (x is None or x == "")]
    return table.name, examples.take(keep), [str(both.label[i][0]) for i in keep], task, read


def label_space(splits: Splits, task: Spec, tell: Say) -> tuple[list[str], Spec]:
    """The label names over all splits, and the task with what it takes from the training labels (means, scales)."""
    blank = task.build([])
    labels = blank.names([*splits.train.label, *splits.valid.label, *splits.test.label])
    for name, value in blank.settled(splits.train.label).items():
        task = task.replace(name, value)
    if not labels or len(labels) < blank.fewest:
        raise ValueError(
            f"there is only one label, {labels[0]!r}: nothing to learn" if labels else "no row has a label"
        )
    if unseen := sorted(set(labels) - set(blank.names(splits.train.label))):
        tell(f"labels that never occur in train: {', '.join(map(repr, unseen[:10]))}")
    if untested := sorted(set(blank.names(splits.train.label)) - set(blank.names(splits.test.label))):
        tell(f"labels that no test text has, learnt and not measured: {', '.join(map(repr, untested[:10]))}")
    return labels, task
