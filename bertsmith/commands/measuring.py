"""How good a model is, and what can be known of methods, machines and runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bertsmith.commands.shared import (
    AdapterPath,
    AsJson,
    BaselineNames,
    LabelColumn,
    ModelPath,
    PairColumn,
    Seed,
    TextColumn,
    brief,
    columns_of,
    open_model,
    say,
    tell,
)


class By(StrEnum):
    """What `evaluate` measures."""

    TASK = "task"
    MASKED_LM = "masked-lm"
    PSEUDO_PERPLEXITY = "pseudo-perplexity"
    BLIMP = "blimp"


def evaluate(
    model: ModelPath,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="A table for `task`, text for the two of text, blimp.tar.xz or its folder for `blimp`; none for a suite.",
        ),
    ] = None,
    by: Annotated[By, typer.Option(help="A fine-tuned model's own task, or what needs no fine-tuning.")] = By.TASK,
    text: TextColumn = None,
    pair: PairColumn = None,
    label: LabelColumn = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Only so many pieces of text, or pairs of each BLiMP paradigm, or training examples of a set."
        ),
    ] = None,
    adapter: AdapterPath = None,
    suite: Annotated[
        str | None, typer.Option(help="Tune copies on many labelled sets, and measure these: english.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Tune on each set of entailment, test on all of them: a matrix.")
    ] = False,
    sets: Annotated[str | None, typer.Option(help="Of the suite, or for the matrix, these alone: sst2,rte.")] = None,
    methods: Annotated[str, typer.Option(help="Ways to tune, with commas between them: full,lora:rank=4.")] = "full",
    protocol: Annotated[
        str,
        typer.Option(
            help="fixed: 3 epochs, batches of 32, the method's learning rate; sweep: the best of three; small, small_sweep: "
            "for small encoders; others as fixed:epochs=20,batch=2; or several."
        ),
    ] = "fixed",
    seeds: Annotated[int, typer.Option(help="Runs of a suite; mean and 95 % interval are reported.")] = 3,
    seed: Seed = 0,
    baselines: BaselineNames = "tfidf",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results of a suite or matrix; what is there is kept.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the archives; $BERTSMITH_DATA if not said.")] = None,
    cache: Annotated[str | None, typer.Option(help="Folder in which unpacked archives stay.")] = None,
    name: Annotated[str, typer.Option(help="Of the model, in the table of a suite; its folder's if not said.")] = "",
    as_json: AsJson = False,
) -> None:
    """Measure a model, without training it; or, with --suite or --across, what copies of it learn. Killed, these go on."""
    if suite or across:
        if file is not None or adapter is not None or out is None:
            raise ValueError("--suite and --across take no FILE and no adapter, and need --out FOLDER")
        chosen = sets.split(",") if sets else None
        _suites(
            model, out, suite, across, chosen, methods, protocol, baselines, as_json,
            {"data": data, "limit": limit, "seeds": seeds, "seed": seed, "name": name, "cache": cache},
        )  # fmt: skip
        return
    if file is None:
        raise ValueError("say what to measure on: a FILE, or --suite english")
    from bertsmith import evaluate as measures

    opened, found = open_model(model, adapter), dict[str, Any]()
    if by is By.TASK:
        found |= measures.evaluate(opened, file, text, columns_of(pair), columns_of(label))
    elif by is By.MASKED_LM:
        found |= measures.masked_lm(opened, file, limit=limit)
    elif by is By.PSEUDO_PERPLEXITY:
        found |= measures.pseudo_perplexity(opened, file, limit=limit)
    else:
        found |= measures.blimp(opened, file, limit, progress=not as_json)
    flat = {name: value for name, value in found.items() if value is None or isinstance(value, int | float)}
    flat |= found.get("fields", {})
    tell(
        found,
        as_json,
        "\n".join(f"{name:20} {value if isinstance(value, int) else brief(value)}" for name, value in flat.items()),
    )


def _suites(
    model: str,
    out: Path,
    suite: str | None,
    across: bool,
    chosen: list[str] | None,
    methods: str,
    protocol: str,
    baselines: str,
    as_json: bool,
    shared: dict[str, Any],
) -> None:
    """A suite, a transfer matrix for each method and protocol, or both."""
    from bertsmith import transfer
    from bertsmith.suite import run_suite, split_named
    from bertsmith.suite_table import markdown

    beside: dict[str, Any] = {"tfidf": True, "all": "all", "none": False}
    if baselines not in beside:
        raise ValueError(f"no baselines {baselines!r}; there are: {', '.join(beside)}")
    ways, how, shared = split_named(methods), split_named(protocol), shared | {"progress": not as_json, "say": say}
    if across and len(ways) * len(how) > 1:
        raise ValueError("--across makes one matrix: name one method and one protocol")
    found: dict[str, Any] = {}
    plain = []
    if suite:
        found |= run_suite(
            model, out, chosen=chosen, suite=suite, methods=ways, protocols=how, baselines=beside[baselines], **shared
        )
        plain.append(markdown(found))
    if across:
        those = {} if suite or not chosen else {"chosen": chosen}
        found["across"] = transfer.across(model, out, method=ways[0], protocol=how[0], **those, **shared)
        plain.append(transfer.markdown(found["across"]))
    tell(found, as_json, "\n\n".join(plain))
    if failed := found.get("failed"):
        raise RuntimeError(f"{len(failed)} cells could not be done, the first: {failed[0]['cell']}: {failed[0]['why']}")


def methods(
    room: Annotated[str | None, typer.Argument(help="Of this room only.")] = None, as_json: AsJson = False
) -> None:
    """List every method with its paper, settings and recipes."""
    from bertsmith import methods as listing
    from bertsmith.spec import find_slot

    found = [one for one in listing.methods() if room is None or one["room"] == find_slot(room).name]
    if as_json:
        tell(found, True, "")
    else:
        listing.show(found)


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has, and which precision, kernels and threads will be used."""
    from bertsmith.doctor import facts, show

    found = facts()
    if as_json:
        tell(found, True, "")
    else:
        show(found)


def report(out: Annotated[Path, typer.Argument(help="Folder of a run.")], as_json: AsJson = False) -> None:
    """Write report.html, one page that opens offline, into the folder of a run."""
    from bertsmith.report import write_report
    from bertsmith.report_tuning import write_tuning_report

    page = write_tuning_report(out) if (out / "report.json").exists() else write_report(out)
    tell({"report": str(page)}, as_json, str(page))


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; one curve each.")],
    out: Annotated[Path, typer.Option(help="Where to: .pdf, .svg, .png and what else matplotlib writes.")],
    y: Annotated[str, typer.Option(help="A number of the log: loss, lr, grad_norm, tokens_per_s, ...")] = "loss",
    x: Annotated[str, typer.Option(help="What the curves run along: steps, tokens, hours or flops.")] = "steps",
    log_x: Annotated[bool, typer.Option("--log-x", help="Along it by its logarithm.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the curves of several runs in one picture. Needs the extra [plot]."""
    from bertsmith.plot import plot as draw

    tell({"picture": str(draw(runs, out, y, x, log_x))}, as_json, str(out))
