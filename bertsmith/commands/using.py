"""What a model is there for: words for masks, vectors, answers."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bertsmith.commands.shared import (
    AdapterPath,
    AsJson,
    ModelPath,
    PairColumn,
    PrecisionName,
    TextColumn,
    columns_of,
    open_model,
    precision_of,
    say,
    tell,
)


def fill(
    model: ModelPath,
    text: Annotated[list[str], typer.Argument(help='Text with one or more [MASK]: "the cat sat on the [MASK]."')],
    top: Annotated[int, typer.Option(help="Guesses for each mask.")] = 5,
    precision: PrecisionName = "default",
    as_json: AsJson = False,
) -> None:
    """Guess the masked words of a text."""
    from bertsmith.model import load

    found = load(model).fill(text, top, precision_of(precision))
    lines = []
    for filled in found:
        lines.append(filled.text)
        for number, guesses in enumerate(filled.guesses, start=1):
            lines.append(f"  {number}: " + ", ".join(f"{guess.token} {guess.probability:.1%}" for guess in guesses))
    tell([dataclasses.asdict(filled) for filled in found], as_json, "\n".join(lines))


def encode(
    model: ModelPath,
    file: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="A text a line (.txt or -), or a table; for shards several, or a folder."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="A .npy file of float32 [N, D]; or, for tables of any size, a folder for shards or a .parquet."
        ),
    ],
    text: TextColumn = None,
    pooling: Annotated[str, typer.Option(help="mean or first; the model's own if not said.")] = "",
    normalize: Annotated[bool, typer.Option("--normalize", help="Make every vector one long.")] = False,
    precision: PrecisionName = "default",
    keep: Annotated[str, typer.Option(help="Columns to write beside the vectors: id,title.")] = "",
    format: Annotated[str, typer.Option(help="Of shards: parquet or npy.")] = "parquet",
    shard: Annotated[int, typer.Option(help="Rows of a shard, which is what a killed job loses at the most.")] = 16_384,
    ray: Annotated[int, typer.Option(metavar="WORKERS", help="Do it on Ray, with so many workers of a core each.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Turn texts into vectors, in the order given; a JSON says by which weights, runtime and precision.

    Into a folder or a .parquet file go shards: memory stays flat, and a job that was killed goes on when it is said again.
    """
    how = precision_of(precision)
    if out.suffix == ".npy":
        if len(file) != 1 or Path(file[0]).is_dir() or keep or ray:
            raise ValueError(f"{out} holds vectors of one file, and nothing else; say --out FOLDER, or one .parquet")
        _encode_array(model, file[0], out, text, pooling, normalize, how, as_json)
        return
    from bertsmith.bulk import encode_file
    from bertsmith.progress import Bar

    with Bar(not as_json) as bar:
        found = encode_file(
            model,
            file,
            out,
            text,
            keep.split(",") if keep else [],
            pooling,
            normalize,
            precision=how,
            format=format,  # type: ignore[arg-type]
            shard=shard,
            workers=ray,
            on_rows=lambda now, left: bar.move(now / left, "encoding", f"{now:,} of {left:,} rows"),
            say=say,
        )
    tell(
        found,
        as_json,
        f"{found['rows']:,} rows in {out}; {found['seconds']:.0f} s, of which the tokenizer worked for "
        f"{found['tokenizing']:.0%}, beside the encoder, and was waited for {found['waiting']:.0%}",
    )


def _encode_array(
    model: str,
    file: str,
    out: Path,
    text: str | None,
    pooling: str,
    normalize: bool,
    how: Any,
    as_json: bool,
) -> None:
    import io

    import numpy as np

    from bertsmith.adapter import digest
    from bertsmith.files import write_atomic
    from bertsmith.model import load
    from bertsmith.texts import read_texts

    opened = load(model)
    vectors = opened.encode(read_texts(file, text)[0], pooling=pooling, normalize=normalize, precision=how)
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    write_atomic(out, buffer.getvalue())
    _say_cut(opened.cut)
    made = {"model": model, "weights": digest(opened), "pooling": pooling or opened.pooling, "normalized": normalize}
    made |= {"shape": list(vectors.shape), "cut": opened.cut} | opened.engine.about(how)
    write_atomic(f"{out}.json", json.dumps(made, indent=1))
    tell(
        {"out": str(out)} | made,
        as_json,
        f"{len(vectors):,} vectors of {vectors.shape[-1]} in {out}",
    )


def _say_cut(cut: int) -> None:
    if cut:
        say(f"{cut} text(s) were longer than the model reads, and were cut")


def predict(
    model: ModelPath,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A text a line (.txt or -), or a table: csv, tsv, jsonl, json, parquet; with --out also jsonl from -.",
        ),
    ],
    text: TextColumn = None,
    pair: PairColumn = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Write FILE here, with its answers as further columns, in the format of this name's ending (csv, tsv, "
            "jsonl, json, .gz and .xz of them, parquet; txt: the answers alone); - is the standard output, as jsonl."
        ),
    ] = None,
    names: Annotated[str, typer.Option(help="What these columns are called.")] = "prediction,score",
    calibrate: Annotated[
        str | None, typer.Option(help="Labelled texts that MODEL was not trained on, to calibrate its scores by.")
    ] = None,
    adapter: AdapterPath = None,
    precision: PrecisionName = "default",
    as_json: AsJson = False,
) -> None:
    """Answer with a fine-tuned model: one line a text, in order; or a whole table, with --out."""
    from bertsmith.texts import read_texts

    opened, how = open_model(model, adapter), precision_of(precision)
    if calibrate is not None:
        from bertsmith.calibration import calibrate as calibrated

        opened = calibrated(opened, calibrate, text, columns_of(pair), say=say)
    if out is not None:
        from bertsmith.predict_file import predict_file
        from bertsmith.progress import Counter
        from bertsmith.stream import PIPE

        if names.count(",") != 1:
            raise ValueError(f"--names is the names of two columns with a comma between them; got {names!r}")
        prediction, score = names.split(",")
        with Counter("rows", shown=not as_json) as counter:
            found = predict_file(
                opened,
                file,
                out,
                text,
                columns_of(pair),
                prediction,
                score,
                on_chunk=counter.add,
                say=say,
                precision=how,
            )
        if out != PIPE:
            tell(found, as_json, f"{found['rows']:,} rows in {out}")
        return
    texts, pairs = read_texts(file, text, pair)
    answers = opened.predict(texts, pairs, precision=how)
    _say_cut(opened.cut)
    for answer in answers if isinstance(answers, list) else [answers]:
        plain = dataclasses.asdict(answer)
        label = plain["label"] if isinstance(plain["label"], str) else json.dumps(plain["label"], ensure_ascii=False)
        tell(plain, as_json, label)
