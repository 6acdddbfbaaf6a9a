"""From a model and labelled texts to a model with a task."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bertsmith.commands.shared import (
    AsJson,
    BaselineNames,
    LabelColumn,
    MaxLength,
    ModelPath,
    PairColumn,
    Seed,
    TextColumn,
    brief,
    columns_of,
    say,
    tell,
)

Labelled = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Labelled texts: csv, tsv, jsonl, parquet; spans in CoNLL columns, CoNLL-U or JSON; SQuAD; a folder.",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the fine-tuned model and its report.json.")]
Valid = Annotated[str | None, typer.Option(help="Table to choose the epoch on; cut from FILE if not given.")]
Test = Annotated[str | None, typer.Option(help="Table to report on; cut from FILE if not given.")]
Seeds = Annotated[int, typer.Option(help="How many runs; the mean and its 95 % interval are reported.")]
Epochs = Annotated[int, typer.Option(help="How often all texts are read.")]
Batch = Annotated[int, typer.Option(help="Texts a step.")]
TaskName = Annotated[
    str | None, typer.Option(help="What is asked, if not what the labels say: ordinal, tagging:scheme=bilou, ...")
]
Group = Annotated[
    str | None, typer.Option(help="Column whose equal cells stay on one side of every split that is cut.")
]


def finetune(
    model: ModelPath,
    file: Labelled,
    out: Out,
    text: TextColumn = None,
    pair: PairColumn = None,
    label: LabelColumn = None,
    valid: Valid = None,
    test: Test = None,
    seeds: Seeds = 1,
    epochs: Epochs = 3,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; the method's own if not said.")] = None,
    batch: Batch = 32,
    max_length: MaxLength = 128,
    method: Annotated[
        str, typer.Option(help="How: full, lora, adapters, prefix, bitfit, ...; with settings lora:rank=4,alpha=8.")
    ] = "full",
    task: TaskName = None,
    baselines: BaselineNames = "tfidf",
    long: Annotated[
        str, typer.Option(help="What is kept of longer texts: head, tail, head+tail, or all of it in pieces.")
    ] = "head",
    pool: Annotated[
        str,
        typer.Option(
            help="What the head reads of a text: bert, mean, max, ...; as the encoder was trained if not said."
        ),
    ] = "",
    head: Annotated[
        str | None, typer.Option(help="What stands on the encoder, if not the task's own: mlp, siamese, cosine, ...")
    ] = None,
    dictionary: Annotated[
        str | None, typer.Option(help="A .dic file as LIWC's: what its categories tell is one more baseline.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="100,400,1600: tune on so many texts, too; the report draws the curve.")
    ] = None,
    patience: Annotated[
        int, typer.Option(help="Epochs without a better one after which a run ends; 0: all are done.")
    ] = 0,
    group: Group = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a copy of a model on labelled texts. Killed, the same command goes on.

    A method that leaves most weights as they are also writes OUT/adapter, what it changed alone.
    """
    from bertsmith import adapter as adapters
    from bertsmith.curve import curve
    from bertsmith.model import load
    from bertsmith.recipes.tuning import named
    from bertsmith.report_tuning import write_tuning_report
    from bertsmith.tuning import finetune as run

    counts, base, how = _sizes(sizes), load(model), named(method)
    columns = text, columns_of(pair), columns_of(label)
    settings: dict[str, Any] = {
        "valid": valid,
        "test": test,
        "seeds": seeds,
        "epochs": epochs,
        "lr": lr,
        "batch": batch,
        "max_length": max_length,
        "progress": not as_json,
        "task": _named("task", task),
        "seed": seed,
        "tuning": how,
        "baselines": _baselines(baselines, dictionary),
        "group": group,
        "long": long,
        "pool": pool,
        "head": _named("head", head),
        "patience": patience,
    }
    tuned = run(base, file, *columns, out=out, **settings)
    if counts:
        curve(base, file, counts, *columns, out=out, **settings)
        write_tuning_report(out)
    if how.partial:
        share = adapters.save(tuned, base, out / "adapter")["share"]
        say(f"{100 * share:.2f} % of the numbers are its own: they are in {out / 'adapter'}")
    _tell_tuned(tuned.report, as_json, out)


def multitask(
    model: ModelPath,
    sets: Annotated[
        list[str], typer.Argument(metavar="NAME=FILE...", help="Labelled texts, each with a name of your choice.")
    ],
    out: Annotated[Path, typer.Option(help="Folder; in it a model for each set, in a folder of its name.")],
    text: Annotated[list[str] | None, typer.Option(help="NAME=COLUMN of the text, where it is not plain.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="NAME=COLUMN of the second text.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=COLUMN of the label.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="NAME=TASK, where labels do not say it: a=ordinal.")] = None,
    epochs: Annotated[float, typer.Option(help="How often all texts together are read.")] = 3,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-5,
    batch: Annotated[int, typer.Option(help="Texts of a batch, all of one set.")] = 32,
    accumulate: Annotated[int, typer.Option(help="Batches, of whatever sets, in a step.")] = 4,
    max_length: MaxLength = 128,
    temperature: Annotated[
        float, typer.Option(help="1: sets are drawn in proportion to their sizes; the higher, the more alike often.")
    ] = 1.0,
    in_turn: Annotated[bool, typer.Option("--in-turn", help="A batch of each set in turn, whatever its size.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Learn several labelled sets at once: one encoder, a head for each set. Killed, the same command goes on.

    Each model in OUT predicts for its set. The encoder, which they share, is also a good start for `finetune` on another set.
    """
    from bertsmith.model import load
    from bertsmith.prefinetune import Together
    from bertsmith.prefinetune import multitask as run
    from bertsmith.splits import Ask

    texts, pairs, labels = (_by_name(said, "a column", "NAME=COLUMN") for said in (text, pair, label))
    how = Together(
        epochs=epochs,
        lr=lr,
        batch=batch,
        accumulate=accumulate,
        max_length=max_length,
        temperature=None if in_turn else temperature,
        tasks={name: _named("task", one) for name, one in _by_name(task, "a task", "NAME=TASK").items()},
        columns={
            name: Ask(texts.get(name), columns_of(pairs.get(name)), columns_of(labels.get(name)))
            for name in texts | pairs | labels
        },
        seed=seed,
    )
    made = run(load(model), _by_name(sets, "a set", "NAME=FILE"), how, out, progress=not as_json, say=say)
    reports = {name: one.report for name, one in made.items()}
    lines = []
    for name, report in reports.items():
        metric = report["metric"]
        score = brief(report.get("test", {}).get(metric))
        lines.append(f"{name}: test {metric} {score}; the model is in {out / name}")
    tell(reports, as_json, "\n".join(lines))


def diet(
    model: ModelPath,
    file: Labelled,
    out: Annotated[
        Path, typer.Option(help="Folder for the fine-tuned model, its report.json, and diet.jsonl: texts and scores.")
    ],
    text: TextColumn = None,
    pair: PairColumn = None,
    label: LabelColumn = None,
    drop: Annotated[float, typer.Option(help="Share left out of those with the highest scores (noise).")] = 0.05,
    keep: Annotated[float, typer.Option(help="Below 1, those with the lowest scores (easy) are left out, too.")] = 1.0,
    by: Annotated[
        str, typer.Option(help="el2n, how far the answer is from the label; grand, how large the gradient is.")
    ] = "el2n",
    runs: Annotated[int, typer.Option(help="Short runs whose scores are averaged.")] = 5,
    after: Annotated[int, typer.Option(help="Epochs of a short run, before its model is asked.")] = 1,
    valid: Valid = None,
    test: Test = None,
    seeds: Seeds = 1,
    epochs: Epochs = 3,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-5,
    batch: Batch = 32,
    max_length: MaxLength = 128,
    task: TaskName = None,
    baselines: BaselineNames = "tfidf",
    group: Group = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find the training texts that teach least (wrong labels, easy ones), leave them out, and fine-tune on the rest.

    Short runs with different heads say for each text how far they are from its label. For one label a text, or several.
    """
    from bertsmith.diet import Young, finetune_on_diet
    from bertsmith.model import load
    from bertsmith.splits import Ask

    tuned = finetune_on_diet(
        load(model),
        file,
        drop,
        keep,
        by,
        Ask(text, columns_of(pair), columns_of(label), group),
        valid,
        test,
        _named("task", task),
        young=Young(runs, after, epochs, lr, batch, max_length, seed=seed),
        epochs=epochs,
        seeds=seeds,
        baselines=_baselines(baselines),
        out=out,
        progress=not as_json,
        say=say,
    )
    _tell_tuned(tuned.report, as_json, out)


def _named(room: str, said: str | None) -> Any:
    """The spec of a task or a head, or None where nothing is said."""
    from bertsmith.spec import named_spec

    return None if said is None else named_spec(room, said)


def _baselines(said: str, dictionary: str | None = None) -> Any:
    """What `finetune` calls them. Raises ValueError for another word, FileNotFoundError where there is no dictionary."""
    from bertsmith.baseline import baseline
    from bertsmith.beside import simplest, usual
    from bertsmith.feature import feature

    known = {"tfidf": simplest(), "all": usual(), "none": {}}
    if said not in known:
        raise ValueError(f"no baselines {said!r}; there are: {', '.join(known)}")
    if dictionary is None:
        return known[said]
    if not Path(dictionary).is_file():
        raise FileNotFoundError(f"no file {dictionary!r}; --dictionary is a .dic file as LIWC's are")
    return known[said] | {"dictionary": baseline("linear", features=feature("dictionary", path=dictionary))}


def _sizes(said: str | None) -> list[int]:
    """Numbers of texts. ValueError for what is none."""
    try:
        found = [int(one) for one in said.split(",")] if said else []
    except ValueError:
        found = [0]
    if any(one < 1 for one in found):
        raise ValueError(f"--sizes is numbers of texts with commas between them, 100,400,1600; got {said!r}")
    return found


def _by_name(said: list[str] | None, what: str, form: str) -> dict[str, str]:
    """What stands behind each NAME=. ValueError where there is none, or it is there twice."""
    found: dict[str, str] = {}
    for one in said or []:
        name, _, value = one.partition("=")
        if not name or not value or name in found:
            raise ValueError(f"{what} is {form}, each name once; got {one!r}")
        found[name] = value
    return found


def _tell_tuned(report: dict[str, Any], as_json: bool, out: Path) -> None:
    scores = ", ".join(f"{name} {brief(value['mean'])}" for name, value in report["test"].items())
    tell(report, as_json, f"test: {scores}; the model and report.json are in {out}")
