"""More labelled texts, written by a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bertsmith.commands.shared import AsJson, LabelColumn, MaxLength, Seed, TextColumn, columns_of, say, tell


def augment(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A pre-trained model, which can fill in a [MASK].")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="A table of texts with a label each.")],
    out: Annotated[
        Path, typer.Option(help="Table (csv, tsv, jsonl, json, parquet) of the texts of FILE and the new ones.")
    ],
    text: TextColumn = None,
    label: LabelColumn = None,
    how: Annotated[
        str, typer.Option(help="How the model reads the label: prepend, its name as text; expand, a token of its own.")
    ] = "prepend",
    count: Annotated[int, typer.Option(help="New texts for each.")] = 1,
    share: Annotated[float, typer.Option(help="Share of a text's tokens that are filled in anew.")] = 1 / 7,
    temperature: Annotated[float, typer.Option(help="Below 1 likelier tokens, above 1 rarer ones.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="How often the model reads FILE before it writes.")] = 10,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 4e-5,
    batch: Annotated[int, typer.Option(help="Texts a step.")] = 8,
    max_length: MaxLength = 64,
    classifier: Annotated[
        str | None, typer.Option(help="A model tuned on real texts, to count the new ones that keep their label.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write new labelled texts: a copy of the model learns FILE with the labels in front, and fills in some tokens anew.

    OUT has the columns text, label, row (the number of the text that it comes from: `finetune --group row` keeps what was made
    of a text on its side of a split) and written (1 of a new text). Report on real texts alone: give `finetune` a --test.
    """
    from bertsmith import augment as texts
    from bertsmith.examples import find_columns, take_examples
    from bertsmith.model import load
    from bertsmith.stream import write_stream
    from bertsmith.table import read_table

    table = read_table(file, say=say)
    old = take_examples(table, *find_columns(table, text, None, columns_of(label), say), say=say)
    writer = texts.learn(load(model), old, how, epochs, lr, batch, max_length, seed, progress=not as_json)
    new = writer.write(old, count, share, temperature, seed)
    found: dict[str, Any] = {"out": str(out), "texts": len(old), "written": len(new)}
    found["diversity"] = texts.diversity(old.text, new.text)
    if classifier is not None:
        found["preserved"] = texts.preserved(load(classifier), new)
    with write_stream(out, {"text": str, "label": str, "row": int, "written": int}) as (put, _):
        for written, some in enumerate((old, new)):
            for i in range(len(some)):
                row = i // count if written else i
                put({"text": some.text[i], "label": some.label[i], "row": row, "written": written})
    changed, kept = found["diversity"]["changed"], found.get("preserved")
    line = f"{len(new):,} new texts beside {len(old):,} in {out}; {changed:.1%} of them are no text of {file}"
    tell(found, as_json, line if kept is None else f"{line}; {kept:.1%} keep their label")
