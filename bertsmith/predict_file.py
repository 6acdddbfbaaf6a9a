"""Prediction on a file: every row comes back, in its place and with all its columns, and beside them what the model says.

The file is read and written row by row, so that its size is not bounded by memory; the answers are there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bertsmith.engine import Precision
from bertsmith.examine import plain
from bertsmith.examples import Columns
from bertsmith.model import Model
from bertsmith.stream import Stream, cell_of, open_stream, write_stream
from bertsmith.table import PAIR_NAMES, TEXT_NAMES, Say, aloud
from bertsmith.task import Prediction
from bertsmith.task.extractive_qa import Answer

CHUNK = 1024  # rows that are held at a time, and sorted by length for the model
SETS = ("multi_label", "hierarchy")  # tasks whose answer is any number of labels
NUMBERS: dict[str, type] = {"regression": float, "multiple_choice": int}  # tasks whose answer is one number


def predict_file(
    model: Model,
    source: str | Path,
    out: str | Path,
    text: str | None = None,
    pair: Columns | None = None,
    prediction: str = "prediction",
    score: str = "score",
    chunk: int = CHUNK,
    on_chunk: Callable[[int], None] | None = None,
    say: Say = aloud,
    precision: Precision = "default",
) -> dict[str, Any]:
    """Write `source` again with two more columns: the answer of a fine-tuned model, and how sure it is of it.

    A label is written as it is, a set of labels as "a|b", a number as a number; spans, answers in a text and all else as JSON.
    The score is the probability of the answer, and of each label of a set; it is empty where the task gives none (numbers,
    spans). `bertsmith.calibrate` makes a model whose scores can be taken at their word.

    A row without a text (or second text) is kept, its answer is empty, and it is counted aloud; so are texts that are cut.

    Args:
        source, out: .csv, .tsv, .jsonl, .json or .txt (a text a line), also with .gz or .xz behind, or .parquet; the two may
            differ in this. In a .txt is but the answer, a line for each row. "-" is the standard input (objects or texts, one
            a line) and output (objects).
        text, pair: columns; by default the only one, or those with a usual name, which is said. Several for `pair` are choices.
        prediction, score: what the new columns are called.
        chunk: how many rows are held at a time. on_chunk: called with how many were answered.
        precision: see `bertsmith.engine`.

    Returns {"out", "rows", "empty", "cut", "columns", "runtime"}.

    Raises ValueError or KeyError before anything is written: a file that cannot be read to its end, no column that is
    plainly the text, a column that has the name of a new one already, a model without a task.
    """
    if model.task is None:
        raise ValueError("this model was not fine-tuned for a task: fine-tune it first (bertsmith finetune MODEL FILE)")
    table = open_stream(source)
    for note in table.notes:
        say(note)
    first, second = _columns(table, text, pair, say)
    if taken := [name for name in (prediction, score) if name in table.columns or prediction == score]:
        raise ValueError(f"{source}: there would be two columns {taken[0]!r}; say prediction= or score=, another name")
    separator = str(model.task.args["separator"]) if model.task.kind == "multi_label" else "|"
    new = {prediction: NUMBERS.get(model.task.kind, str), score: str if model.task.kind in SETS else float}
    found = {"out": str(out), "rows": 0, "empty": 0, "cut": 0, "columns": [*table.columns, *new]}
    found |= {"runtime": model.engine.about(precision)}
    with write_stream(out, table.columns | new, table) as (put, flat):
        for rows in _chunks(table, chunk):
            texts = [_text(row.get(first)) for row in rows]
            pairs = None if second is None else [_second(row, second) for row in rows]
            full = [i for i in range(len(rows)) if _is_full(texts[i]) and (pairs is None or _is_full(pairs[i]))]
            answers = _answers(
                model, [texts[i] for i in full], None if pairs is None else [pairs[i] for i in full], precision
            )
            said = dict(zip(full, answers, strict=True))
            for i, row in enumerate(rows):
                cells: list[Any] = [None, None]
                if i in said:
                    cells = [plain(said[i].label, texts[i]), _score(said[i])]
                if flat and model.task.kind in SETS:
                    cells = [None if x is None else separator.join(map(cell_of, x)) for x in cells]
                put(row | dict(zip(new, cells, strict=True)))
            found["rows"] += len(rows)
            found["empty"] += len(rows) - len(full)
            found["cut"] += model.cut if full else 0
            if on_chunk is not None:
                on_chunk(len(rows))
    if found["empty"]:
        say(f"{source}: {found['empty']} of {found['rows']} rows have no text; their {prediction} is empty")
    if found["cut"]:
        say(f"{source}: {found['cut']} of {found['rows']} texts were longer than the model reads, and were cut")
    return found


def _columns(table: Stream, text: str | None, pair: Columns | None, say: Say) -> tuple[str, Columns | None]:
    """(column of the text, of the second text or of the choices). By the names that `finetune` goes by, and said."""
    lower = {name.strip().lower(): name for name in reversed(table.columns)}
    guessed = []
    if text is None:
        alone = next(iter(table.columns)) if len(table.columns) == 1 else None
        text = alone or next((lower[name] for name in TEXT_NAMES if name in lower), None)
        if text is None:
            raise ValueError(
                f"which column of {table.path} is the text? Say text=... of {', '.join(map(repr, table.columns))}"
            )
        guessed.append(f"text={text!r}")
        if pair is None:
            pair = next((lower[name] for name in PAIR_NAMES if name in lower and lower[name] != text), None)
            guessed += [f"pair={pair!r}"] if pair else []
    for name in (text, *([pair] if isinstance(pair, str) else pair or [])):
        if name not in table.columns:
            raise KeyError(f"{table.path} has no column {name!r}; it has: {', '.join(map(repr, table.columns))}")
    if guessed:
        say(f"{table.path}: columns guessed: {', '.join(guessed)}")
    return text, pair


def _chunks(table: Stream, size: int) -> Iterator[list[dict[str, Any]]]:
    rows = iter(table)
    while chunk := list(islice(rows, size)):
        yield chunk


def _answers(model: Model, texts: list[str], pairs: list[Any] | None, precision: Precision) -> Sequence[Prediction]:
    answers = model.predict(texts, pairs, precision=precision) if texts else []
    assert isinstance(answers, list)
    return answers


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _second(row: dict[str, Any], name: Columns) -> Any:
    """The second text, or the list of choices: of several columns, or of one whose cells are lists."""
    if not isinstance(name, str):
        return [_text(row.get(one)) for one in name]
    cell = row.get(name)
    return cell if isinstance(cell, list) else _text(cell)


def _is_full(cell: Any) -> bool:
    if isinstance(cell, str):
        return bool(cell.strip())
    return bool(cell) and all(not isinstance(one, str) or bool(one.strip()) for one in cell)


def _score(answer: Prediction) -> float | list[float] | None:
    """The score of what is said; None where the task gives none."""
    label = answer.label
    if isinstance(label, Answer):
        label = "answer" if label.text else "no answer"
    if isinstance(label, list):
        there = all(isinstance(one, str) and one in answer.scores for one in label)
        return [round(answer.scores[one], 6) for one in label] if there and answer.scores else None
    found = answer.scores.get(str(label))
    return None if found is None else round(found, 6)
