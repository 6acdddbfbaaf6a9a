"""From text to a pre-trained model in one call: vocabulary, shards, the run, a directory that `bertsmith.load` opens.

OUT/tokenizer/   the vocabulary and
OUT/data/        the token shards, where the data given is raw text
OUT/run.json  log.jsonl  checkpoints/  report.html
OUT/             the model
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bertsmith.budget import Budget
from bertsmith.corpus.prepare import prepare, skipped
from bertsmith.methods import all_recipes
from bertsmith.model import Model
from bertsmith.report import write_report
from bertsmith.spec import Spec, from_plain, rooms, to_plain
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.train import train_wordpiece
from bertsmith.train import Run, Stage, train

VOCAB = 16384
Part = TypeVar("Part", Run, Stage)


def pretrain(
    recipe: str,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    budget: str | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    vocab: int = VOCAB,
    tokenizer: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Model:
    """Train a recipe on text, or go on with it: the same call again continues where it stopped.

    Args:
        recipe: the name of a function in bertsmith/recipes, "bert_tiny".
        data: one directory that `prepare` made, or raw text: files, folders, globs. What is not here is looked for in
            the folder that the environment variable BERTSMITH_DATA names.
        out: the directory of the run, and of the model at its end.
        budget: "30m", "2e9-tokens", "10000-steps" or "1e15-flops" for the first stage; None: the recipe's own.
        overrides: dotted path in the run -> value, {"stages.0.optim.lr": 1e-3, "encoder.depth": 2}.
        vocab, tokenizer: how many tokens to learn from raw text, or a tokenizer to use instead.
        workers: processes that prepare raw text; one a core if None.

    Raises:
        ValueError, FileNotFoundError: a name that there is not, data that cannot be read, a setting that is off.
        FloatingPointError: training met a bad number; the last good checkpoint is kept.
    """
    if recipe not in all_recipes():
        raise ValueError(f"no recipe {recipe!r}; there are: {', '.join(sorted(all_recipes()))}")
    if budget is not None:
        Budget.parse(budget)
    out = Path(out)
    prepared = _prepared(find_data(data), out, vocab, tokenizer, workers, say)
    run = all_recipes()[recipe](prepared, **({"budget": budget} if budget is not None else {}), seed=seed)
    for path, value in (overrides or {}).items():
        run = override(run, path, value)
    trained = train(run, out, progress=progress)
    model = Model.of(trained, run.stages[-1].objective, load_tokenizer(prepared))
    model.save(out)
    write_report(out)
    return model


def find_data(data: str | Path | Sequence[str | Path]) -> list[str]:
    """The inputs, each as it is if it is there, else below $BERTSMITH_DATA if it is there, else as it is."""
    home = os.environ.get("BERTSMITH_DATA", "")
    found = []
    for path in [data] if isinstance(data, str | Path) else data:
        path = str(path)
        here = path == "-" or _exists(Path(path))
        found.append(path if here or not home or not _exists(Path(home, path)) else str(Path(home, path)))
    return found


def _exists(path: Path) -> bool:
    """Whether a path, or anything that it matches as a glob, is there."""
    if path.exists() or not set(str(path)) & set("*?["):
        return path.exists()
    return any(True for _ in Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _prepared(
    data: list[str],
    out: Path,
    vocab: int,
    tokenizer: str | Path | None,
    workers: int | None,
    say: Callable[[str], None],
) -> Path:
    """The directory of token shards: the one given, or one made below `out` of the text given."""
    if len(data) == 1 and Path(data[0], "manifest.json").is_file():
        return Path(data[0])
    if not (out / "data" / "manifest.json").exists():
        made = tokenizer
        if made is None:
            made = out / "tokenizer"
            if not (made / "tokenizer.json").exists():
                say(f"learning a vocabulary of {vocab:,} tokens")
                train_wordpiece(data, vocab, made)
        say("preparing token shards")
        manifest = prepare(data, out / "data", made, workers)
        if told := skipped(manifest):
            say(told)
    return out / "data"


def override(run: Run, path: str, value: Any) -> Run:
    """A copy of a run with another value at a dotted path: "seed", "encoder.depth", "stages.*.optim.lr".

    Raises ValueError, saying what there is, for a path that leads nowhere or a value of another type than the old one.
    """
    head, _, rest = path.partition(".")
    if head == "stages":
        index, _, inner = rest.partition(".")
        places = range(len(run.stages)) if index == "*" else [int(index)] if index.isdigit() else []
        if not inner or not all(place < len(run.stages) for place in places) or not places:
            raise ValueError(f"{path!r}: say stages.0.NAME to stages.{len(run.stages) - 1}.NAME, or stages.*.NAME")
        changed = [_changed(s, inner, value, path) if i in places else s for i, s in enumerate(run.stages)]
        return dataclasses.replace(run, stages=changed)
    return _changed(run, path, value, path)


def _changed(part: Part, inner: str, value: Any, path: str) -> Part:
    name, _, rest = inner.partition(".")
    fields = {f.name for f in dataclasses.fields(part)}
    if name not in fields:
        raise ValueError(f"{path!r}: {type(part).__name__} has no {name!r}; it has: {', '.join(sorted(fields))}")
    old = getattr(part, name)
    try:
        new = from_plain(value)
        if not rest:
            return dataclasses.replace(part, **{name: _fitting(new, old, path)})
        if not isinstance(old, Spec):
            raise ValueError(f"{path!r}: {name} is a plain value, nothing stands below it")
        return dataclasses.replace(part, **{name: old.replace(rest, _fitting(new, old.get(rest), path))})
    except TypeError as error:  # the slot does not take this value
        raise ValueError(f"{path!r}: {error}") from None


def _fitting(new: Any, old: Any, path: str) -> Any:
    """The new value, if it is of the old one's kind. A whole number may stand for another, and a name for a method:
    "pre" or "residual/pre", with the settings that it has in common with the old one."""
    if isinstance(new, str) and isinstance(old, Spec):
        kind = new.removeprefix(old.slot.name + "/")
        common = old.slot.schema(kind).keys() & old.args.keys()
        return old.slot(kind, **{k: old.args[k] for k in common})
    if isinstance(new, str) and old is None and new.partition("/")[0] in rooms():
        return from_plain({"kind": new})
    number = isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool)
    if number:
        return float(new)
    if old is not None and new is not None and type(new) is not type(old):
        raise ValueError(f"{path!r} is {json.dumps(to_plain(old))}, so it cannot be {json.dumps(to_plain(new))}")
    if isinstance(old, Spec) and isinstance(new, Spec) and old.slot is not new.slot:
        raise ValueError(f"{path!r} is of the room {old.slot.name}, so it cannot be {new.slot.name}/{new.kind}")
    return new


def parse_override(text: str) -> tuple[str, Any]:
    """("encoder.depth", 2) of "encoder.depth=2". A value is JSON, or else text. Raises ValueError without "="."""
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ValueError(f"cannot read {text!r}: an override is PATH=VALUE, as in encoder.depth=2")
    try:
        return path, json.loads(value)
    except json.JSONDecodeError:
        return path, value
