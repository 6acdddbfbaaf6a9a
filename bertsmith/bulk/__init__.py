"""Vectors of tables of any size: read row by row, written in shards, taken up again where it stopped.

import bertsmith
bertsmith.encode_file("my-bert", "big.parquet", "vectors", keep=["id"])
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from bertsmith import __version__
from bertsmith.adapter import digest
from bertsmith.bulk.job import Job
from bertsmith.bulk.on_ray import check, shards_on_ray
from bertsmith.bulk.shards import Form, Format
from bertsmith.bulk.source import Source, open_source
from bertsmith.bulk.work import Done, How, Worker
from bertsmith.engine import Precision, check_precision
from bertsmith.jieba import to_text
from bertsmith.model import Model, load
from bertsmith.pool import pool
from bertsmith.spec import to_plain
from bertsmith.table import Say, aloud

SHARD = 16_384  # rows
OnRows = Callable[[int, int], None]


def encode_file(
    model: Model | str | Path,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    text: str | None = None,
    keep: Sequence[str] = (),
    pooling: str = "",
    normalize: bool = False,
    max_length: int = 0,
    precision: Precision = "default",
    format: Format = "parquet",
    row: str = "row",
    vector: str = "vector",
    shard: int = SHARD,
    workers: int = 0,
    on_rows: OnRows | None = None,
    say: Say = aloud,
) -> dict[str, Any]:
    """Write a vector for every row of a table, with the row's number and the columns asked for.

    Memory does not grow with the table. A job that was killed goes on when it is called again in the same way: shards that
    are done are kept, and what comes out is the same, byte for byte. A row without a text keeps its place: its vector is null
    in parquet, and zeros in npy, where a mask says so; such rows are counted aloud, and so are texts that are cut.

    Args:
        model: a model, or what `load` opens.
        source: .csv, .tsv, .jsonl, .json or .txt (also .gz or .xz of them) or .parquet; several, or a folder of them.
        out: a folder for the shards, "000000.parquet" or "000000.npy", "000000.mask.npy" and "000000.jsonl" and so on, with
            "_about.json" (digests, runtime, precision, settings, counts, the input); or a name that ends in .parquet, for one
            file, with the same in a .json beside it.
        text, keep: columns. The text is by default the only one, or that with a usual name, which is said.
        pooling, normalize, max_length, precision: see `Model.encode`.
        row, vector: what the new columns are called.
        shard: rows of a shard, which is what a killed job loses at the most.
        workers: how many do it on Ray (`pip install 'bertsmith[ray]'`), each with a core, on the cluster that Ray finds, or
            on this machine; all see the same files. 0: this process, with all its threads.
        on_rows: called with (rows that were encoded now, rows that this call had to encode).

    Returns what "_about.json" says but for the shards, with "out", "seconds", and of these the shares "tokenizing", in which
    texts were tokenized, beside the encoder, and "waiting", in which it had to wait for that.

    Raises ValueError or KeyError before anything is written: a table that cannot be read to its end, no column that is
    plainly the text, and an `out` that was begun with another model, setting or input, saying which.
    """
    check_precision(precision)
    if workers:
        check()
    opened = model if isinstance(model, Model) else load(model)
    tables = open_source(source, text, keep, shard, say)
    form = Form(format, row, vector, opened.encoder.dim)
    form.check(keep)
    pool(pooling or opened.pooling)  # says which there are
    how = How(pooling or opened.pooling, normalize, opened.coder(max_length).max_length, precision)
    job = Job(Path(out), _what(opened, tables, how, form), form)
    _refuse_own_output(source, tables, job)
    begin, tokenizing, waiting = perf_counter(), 0.0, 0.0
    if not job.is_whole():
        with job.opened():
            todo = [n for n in range(tables.shards) if n not in job.shards]
            if job.shards:
                say(f"{out}: going on; {len(job.shards)} of {tables.shards} shards are there")
            left = tables.count - job.counts()["rows"]
            for done in _shards(Worker(opened, tables, how, form, job.folder), todo, workers, left, on_rows):
                job.add(done)
                tokenizing, waiting = tokenizing + done.tokenizing, waiting + done.waited
            job.finish()
    counts, seconds = job.counts(), perf_counter() - begin
    if counts["empty"]:
        say(f"{counts['empty']:,} of {counts['rows']:,} rows have no text, and so no vector")
    if counts["cut"]:
        say(f"{counts['cut']:,} of {counts['rows']:,} texts were longer than the model reads, and were cut")
    spent = seconds * max(1, workers)
    took = {"seconds": seconds, "tokenizing": tokenizing / spent, "waiting": waiting / spent}
    return {"out": str(out)} | job.what | counts | took


def _shards(worker: Worker, todo: list[int], workers: int, left: int, on_rows: OnRows | None) -> Iterator[Done]:
    """Each shard when it is on the disk; `on_rows` hears of every slice, or from Ray of every shard."""
    rows = 0
    whole = workers > 0 and bool(todo)
    for one in shards_on_ray(worker, todo, workers) if whole else worker.shards(todo):
        if on_rows is not None and isinstance(one, Done) == whole:
            rows += one.rows if isinstance(one, Done) else len(one.numbers)
            on_rows(rows, left)
        if isinstance(one, Done):
            yield one


def _what(model: Model, source: Source, how: How, form: Form) -> dict[str, Any]:
    """All that decides what comes out."""
    shape = {"spec": model.spec.to_dict(), "changes": to_plain(model.encoder.changes)}
    about = model.engine.about(how.precision)
    return {
        "bertsmith": __version__,
        "weights": digest(model),
        "encoder": _digest(json.dumps(shape, sort_keys=True)),
        "tokenizer": _digest(to_text(model.tokenizer)),
        "promise": how.precision,
        **about,
        "pooling": how.pooling,
        "normalized": how.normalize,
        "max_length": how.max_length,
        "long": model.long,
        "format": form.format,
        "row": form.row,
        "vector": form.vector,
        "dim": form.dim,
        "shard": source.shard,
        "text": source.text,
        "keep": source.keep,
        "input": source.about(),
    }


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _refuse_own_output(source: str | Path | Sequence[str | Path], tables: Source, job: Job) -> None:
    """What is read must not be written over, and a folder of tables not added to by the job that reads it."""
    named = [source] if isinstance(source, str | Path) else source
    folders = [Path(one).absolute() for one in named if Path(one).is_dir()]
    out = job.out.absolute()
    if out in [table.path.absolute() for table in tables.tables] or (out.parent if job.alone else out) in folders:
        raise ValueError(f"{job.out} is, or is where, the tables are read from; say another place for the vectors")
