"""Prediction on a file: no row, column or order is lost, in any format; memory does not grow with the file."""

import csv
import datetime
import gzip
import io
import json
import lzma
import tracemalloc

import numpy as np
import pytest
import torch
from golden.make import tokenizer as toy_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.head import head
from bertsmith.hf.bert import bert_encoder
from bertsmith.labelled.spans import Span
from bertsmith.model import Bundle, Model
from bertsmith.pool import pool
from bertsmith.predict_file import predict_file
from bertsmith.stream import open_stream, packed, write_stream
from bertsmith.stream.separated import is_header
from bertsmith.table import read_table
from bertsmith.task import task

VOCAB = 60


def made(kind: str, labels: list[str], top=None, **settings) -> Model:
    torch.manual_seed(0)
    spec, top = bert_encoder(1, 16, 2, VOCAB, length=32, dropout=0.0), top or head("linear", pool=pool("mean"))
    encoder = spec.build()
    about = task(kind, **settings)
    bundle = Bundle(encoder, top.build(encoder, about.build(labels).outputs))
    for p in bundle.head.parameters():
        torch.nn.init.normal_(p)
    return Model(spec, bundle, toy_tokenizer(VOCAB), top, about, labels, max_length=32)


@pytest.fixture(scope="module")
def model():
    return made("single_label", ["no", "yes"])


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in rng.integers(0, 50, rng.integers(1, 12))) for _ in range(count)]


def quiet(line: str) -> None:
    pass


def as_table(path) -> list[dict]:
    table = read_table(path, say=quiet)
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]


ODD = [
    "plain",
    "with, comma",
    'with "quotes"',
    "two\nlines",
    "",
    "tab\there",
    "w3 \u00e9\u4e2d\U0001f600",
    ' "x" ',
    "a\rb",
]


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_all_columns_and_rows_come_back_in_order(model, tmp_path, kind, packing):
    rows = [{"id": str(i), "text": t, "note": ODD[i % len(ODD)]} for i, t in enumerate(texts(50))]
    opener = {"": open, ".gz": gzip.open, ".xz": lzma.open}[packing]
    source, out, said = tmp_path / f"in{kind}{packing}", tmp_path / f"out{kind}{packing}", []
    with opener(source, "wt", encoding="utf-8", newline="") as file:
        if kind == ".csv":
            writer = csv.DictWriter(file, ["id", "text", "note"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    found = predict_file(model, source, out, chunk=7, say=said.append)
    assert found.pop("runtime") == model.engine.about()
    assert found == {
        "out": str(out),
        "rows": 50,
        "empty": 0,
        "cut": 0,
        "columns": ["id", "text", "note", "prediction", "score"],
    }
    back, direct = as_table(out), model.predict([row["text"] for row in rows])
    assert [{k: row[k] for k in ("id", "text", "note")} for row in back] == rows
    assert [row["prediction"] for row in back] == [p.label for p in direct]
    assert [float(row["score"]) for row in back] == pytest.approx([p.scores[p.label] for p in direct], abs=1e-5)
    assert said == [f"{source}: columns guessed: text='text'"] and sorted(tmp_path.iterdir()) == sorted([source, out])
    raw = out.read_bytes()
    predict_file(model, source, out, chunk=50, say=quiet)
    assert packing == ".xz" or out.read_bytes() == raw


@pytest.mark.parametrize(
    ("name", "raw", "what"),
    [
        ("a.csv", "id;text\n1;w1 w2\n2;w3\n", "id;text;prediction;score\n1;w1 w2;{};{}\n2;w3;{};{}\n"),
        ("a.csv", "\ufeffid,text\r\n1,w1\r\n\r\n2,w3\r\n", "id,text,prediction,score\n1,w1,{},{}\n2,w3,{},{}\n"),
        (
            "a.tsv",
            'id\ttext\n1\t"w1 w2\n2\tw3 "a"\n',
            'id\ttext\tprediction\tscore\n1\t"w1 w2\t{}\t{}\n2\tw3 "a"\t{}\t{}\n',
        ),
        (
            "a.tsv",
            'text\tid\n"w1 ""w2"""\t1\nw3\t2\n',
            'text\tid\tprediction\tscore\n"w1 ""w2"""\t1\t{}\t{}\nw3\t2\t{}\t{}\n',
        ),
        ("a.tsv", "w1\t3\nw2\t4\n", "w1\t3\t{}\t{}\nw2\t4\t{}\t{}\n"),
    ],
)
def test_a_file_of_the_same_kind_is_written_the_same_way(model, tmp_path, name, raw, what):
    """Separators, quotes that are characters, a header or none: as they were."""
    (tmp_path / name).write_text(raw, newline="")
    table = read_table(tmp_path / name, say=quiet)
    column = "text" if "text" in table.columns else "column_1"
    predict_file(model, tmp_path / name, tmp_path / f"out{name[1:]}", text=column, say=quiet)
    cells = [x for p in model.predict(table.column(column)) for x in (p.label, json.dumps(round(p.scores[p.label], 6)))]
    assert (tmp_path / f"out{name[1:]}").read_text() == what.format(*cells)


def test_from_one_format_to_another(model, tmp_path):
    rows = [{"text": "w1", "tags": ["a", 1], "deep": {"x": None}}, {"text": "w2", "more": 2.5, "tags": None}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", say=quiet)
    back = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k not in ("prediction", "score")} for row in back] == rows
    predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.csv", say=quiet)
    said = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["tags"] for row in said] == ['["a", 1]', ""] and [row["more"] for row in said] == ["", "2.5"]
    assert [row["prediction"] for row in said] == [row["prediction"] for row in back]
    predict_file(model, tmp_path / "out.csv", tmp_path / "again.tsv", prediction="label", score="p", say=quiet)
    assert [row["label"] for row in as_table(tmp_path / "again.tsv")] == [row["prediction"] for row in back]


def test_an_empty_text_keeps_its_place(model, tmp_path):
    rows = [("1", "w1"), ("2", ""), ("3", "  "), ("4", "w2")]
    (tmp_path / "in.csv").write_text("id,text\n" + "".join(f"{a},{b}\n" for a, b in rows))
    said: list[str] = []
    found = predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", chunk=2, say=said.append)
    back = as_table(tmp_path / "out.csv")
    assert found["empty"] == 2 and [row["id"] for row in back] == list("1234")
    assert (
        [bool(row["prediction"]) for row in back] == [True, False, False, True] == [bool(row["score"]) for row in back]
    )
    assert said[-1].endswith("2 of 4 rows have no text; their prediction is empty")
    (tmp_path / "in.jsonl").write_text('{"text": null}\n{"id": 1}\n{"text": "w1"}')
    assert predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", say=quiet)["empty"] == 2
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1]) == {
        "id": 1,
        "prediction": None,
        "score": None,
    }


def test_texts_that_are_cut_are_counted(model, tmp_path):
    (tmp_path / "in.csv").write_text("text\n" + ("w1 " * 50 + "\n") * 3 + "w2\n")
    said: list[str] = []
    assert predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", chunk=2, say=said.append)["cut"] == 3
    assert "3 of 4 texts were longer than the model reads" in said[-1]


def test_answers_of_every_kind(tmp_path):
    """Sets of labels, numbers, spans, answers in a text, choices."""
    rows = [{"text": t, "pair": p} for t, p in zip(texts(20), texts(20, 1), strict=True)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = [row["text"] for row in rows]

    def both(model, **columns):
        columns |= {"say": quiet}
        predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", **columns)
        predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.csv", **columns)
        return [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()], as_table(
            tmp_path / "out.csv"
        )

    several = made("multi_label", ["a", "b", "c"], separator=";")
    lists, flat = both(several, text="text")
    direct = several.predict(given)
    assert [row["prediction"] for row in lists] == [p.label for p in direct] and any(len(p.label) > 1 for p in direct)
    assert [row["prediction"] for row in flat] == [";".join(p.label) for p in direct]
    assert [len(row["score"]) for row in lists] == [len(p.label) for p in direct]
    aim = several.task.build(several.labels)
    assert torch.equal(aim.encode([row["prediction"] for row in flat]), aim.encode([p.label for p in direct]))

    number = made("regression", ["value"])
    lists, flat = both(number, text="text")
    assert [row["prediction"] for row in lists] == [p.label for p in number.predict(given)] and lists[0][
        "score"
    ] is None
    assert [float(row["prediction"]) for row in flat] == [row["prediction"] for row in lists] and flat[0]["score"] == ""

    tagger = made("tagging", ["PER"], head("token"))
    lists, flat = both(tagger, text="text")
    for row, wide, one in zip(lists, flat, tagger.predict(given), strict=True):
        spans = [Span(x["start"], x["end"], x["label"]) for x in row["prediction"]]
        assert spans == one.label and all(
            row["text"][s.start : s.end] == x["text"] for s, x in zip(spans, row["prediction"], strict=True)
        )
        assert json.loads(wide["prediction"]) == row["prediction"] and wide["score"] == ""
    assert any(row["prediction"] for row in lists)

    qa = made("extractive_qa", ["start", "end"], head("span"))
    lists, flat = both(qa)  # both columns have usual names
    for row, wide, one in zip(lists, flat, qa.predict(given, [row["pair"] for row in rows]), strict=True):
        found = row["prediction"]
        assert found == {"text": one.label.text, "start": one.label.start, "end": one.label.end}
        assert row["pair"][found["start"] : found["end"]] == found["text"] and json.loads(wide["prediction"]) == found
        assert row["score"] == pytest.approx(one.scores["answer"], abs=1e-5)

    choice = made("multiple_choice", ["score"], head("choice", pool=pool("mean")))
    lists, flat = both(choice, text="text", pair=["pair", "text"])
    direct = choice.predict(given, [[row["pair"], row["text"]] for row in rows])
    assert [row["prediction"] for row in lists] == [p.label for p in direct] == [int(row["prediction"]) for row in flat]
    assert [row["score"] for row in lists] == pytest.approx([p.scores[str(p.label)] for p in direct], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "raw", "options", "says"),
    [
        ("in.csv", "text,prediction\nw1,x\n", {}, "two columns 'prediction'; say prediction="),
        ("in.csv", "text,id\nw1,x\n", {"prediction": "a", "score": "a"}, "two columns 'a'"),
        ("in.csv", "text,id\nw1,x\n", {"text": "body"}, "no column 'body'; it has: 'text', 'id'"),
        ("in.csv", "x,y\nw1,x\n", {}, "which column of .* is the text"),
        ("in.csv", "text,id\nw1,x\nw2\n", {}, "line 3, has 1 cells where the first line has 2"),
        ("in.csv", 'text,id\nw1,"x"y\n', {}, "line 2: .*written twice"),
        ("in.csv", "text,text\nw1,x\n", {}, "no column 'text'; it has: 'column_1', 'column_2'"),
        ("in.csv", "", {}, "is empty"),
        ("in.csv", "text,id\n", {}, "has no rows"),
        ("in.jsonl", '{"text": "w1"}\n{"text": \n', {}, "line 2, is not JSON"),
        ("in.jsonl", "[1]\n", {}, "not an object with named fields but list"),
        ("in.jsonl", "\n", {}, "has no rows"),
        ("in.csv.gz", "no gzip", {}, "cannot be unpacked"),
        ("in.xlsx", "PK", {}, "ends in none of .csv"),
        ("in.parquet.gz", "PAR1", {}, "ends in none of .csv"),
        ("in.parquet", "PAR1", {}, "is not a parquet file"),
        ("in.txt", "", {}, "has no rows"),
        ("in.txt", "w1\n", {"text": "body"}, "no column 'body'; it has: 'text'"),
        ("in.json", "[]", {}, "has no rows"),
        ("in.json", '{"text": "w1"}', {}, "must hold a list of objects"),
        ("in.json", '[{"text": "w1"},\n[2]]', {}, "line 2, is not an object with named fields but list"),
        ("in.json", '[{"text": "w1"},\n{"text" "w2"}]', {}, "line 2, is not JSON: Expecting ':'"),
        ("in.json", '[{"text": "w1"}\n{"text": "w2"}]', {}, "line 2, is not JSON: Expecting ','"),
        ("in.json", '[{"text": "w1"},\n{"text": "w', {}, "line 2, is not JSON: Unterminated string"),
        ("in.json", '[{"text": "w1"}\n]\n]', {}, "line 3, is not JSON: something stands behind the list"),
    ],
)
def test_what_does_not_serve_is_named_before_anything_is_written(model, tmp_path, name, raw, options, says):
    (tmp_path / name).write_text(raw)
    options = {"text": "text"} | options if "text,text" in raw else options
    with pytest.raises((ValueError, KeyError), match=says):
        predict_file(model, tmp_path / name, tmp_path / "out.csv", say=quiet, **options)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_other_faults(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        open_stream(tmp_path / "none.csv")
    (tmp_path / "in.csv").write_bytes(b"text,id\nw1,2\nw\xe9,3\n")
    with pytest.raises(ValueError, match="line 3, is not UTF-8"):
        open_stream(tmp_path / "in.csv")
    (tmp_path / "in.csv").write_bytes(gzip.compress(b"text\nw1\n" * 999)[:-20])
    (tmp_path / "in.csv").rename(tmp_path / "in.csv.gz")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        open_stream(tmp_path / "in.csv.gz")
    bare = Model(model.spec, Bundle(model.encoder, None), model.tokenizer)
    with pytest.raises(ValueError, match="not fine-tuned"):
        predict_file(bare, tmp_path / "in.csv.gz", tmp_path / "out.csv")


def test_a_failure_halfway_leaves_what_was_there(model, tmp_path, monkeypatch):
    (tmp_path / "in.csv").write_text("text,id\n" + "".join(f"w{i},{i}\n" for i in range(30)))
    (tmp_path / "out.csv").write_text("old")
    real, calls = Model.predict, []

    def dies(self, *args, precision):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(Model, "predict", dies)
    with pytest.raises(KeyboardInterrupt):
        predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", chunk=10, say=quiet)
    assert (tmp_path / "out.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    predict_file(model, tmp_path / "in.csv", tmp_path / "in.csv", chunk=10, say=quiet)  # onto itself
    assert [row["id"] for row in as_table(tmp_path / "in.csv")] == [str(i) for i in range(30)]


def test_json_and_parquet_keep_every_column_and_its_type(model, tmp_path):
    """A date, a small integer, a list, a gap: of parquet the types stay, of JSON the values."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    import pyarrow.parquet as pq

    when = [datetime.date(2020, 1, 1 + i) for i in range(25)]
    columns = {
        "id": pa.array(range(25), pa.int8()),
        "text": pa.array(texts(24) + [None]),
        "day": pa.array(when),
        "tags": pa.array([["a", "b"]] * 24 + [None]),
        "deep": pa.array([{"x": 0.5}] * 25),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=10)
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet", chunk=7, say=quiet)
    back, direct = pq.read_table(tmp_path / "out.parquet"), model.predict(texts(24))
    assert back.column_names == [*columns, "prediction", "score"]
    assert back.select(list(columns)).equals(pa.table(columns))
    assert back["prediction"].to_pylist() == [p.label for p in direct] + [None]
    assert back["score"].type == pa.float64() and back["score"][24].as_py() is None

    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.json.gz", chunk=7, say=quiet)
    rows = json.loads(gzip.open(tmp_path / "out.json.gz").read())
    wanted = [row | {"day": str(row["day"])} for row in back.to_pylist()]
    assert rows == wanted
    (tmp_path / "in.json").write_text(
        json.dumps([{"text": "w1", "n": 1, "odd": 1}, {"text": "w2", "odd": "x", "n": 0.5}])
    )
    predict_file(model, tmp_path / "in.json", tmp_path / "out.parquet", say=quiet)
    back = pq.read_table(tmp_path / "out.parquet")
    assert [(one.name, one.type) for one in back.schema][:3] == [
        ("text", pa.string()),
        ("n", pa.float64()),
        ("odd", pa.string()),
    ]
    assert back["odd"].to_pylist() == ["1", "x"] and back["n"].to_pylist() == [1.0, 0.5]


def test_answers_in_parquet_have_the_type_of_the_task(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    (tmp_path / "in.txt").write_text("w1 w2\nw3\n")
    for aim, labels, wanted in (
        ("regression", ["value"], (float, type(None))),
        ("multi_label", ["a", "b"], (str, str)),
        ("single_label", ["a", "b"], (str, float)),
    ):
        predict_file(made(aim, labels), tmp_path / "in.txt", tmp_path / "out.parquet", say=quiet)
        for row in as_table(tmp_path / "out.parquet"):
            assert (type(row["prediction"]), type(row["score"])) == wanted


def test_a_text_a_line(model, tmp_path):
    """A blank line is a row: the n-th line of the answers is that of the n-th text."""
    (tmp_path / "in.txt").write_text('w1 w2\r\n\nw3, "w4"\n')
    found = predict_file(model, tmp_path / "in.txt", tmp_path / "out.txt", say=quiet)
    answers = [p.label for p in model.predict(["w1 w2", 'w3, "w4"'])]
    assert (tmp_path / "out.txt").read_text() == f"{answers[0]}\n\n{answers[1]}\n"
    assert (found["rows"], found["empty"]) == (3, 1)
    predict_file(model, tmp_path / "in.txt", tmp_path / "out.csv", say=quiet)
    assert [row["text"] for row in as_table(tmp_path / "out.csv")] == ["w1 w2", "", 'w3, "w4"']
    broken = made("single_label", ["one\ntwo", "one\rtwo"])
    with pytest.raises(ValueError, match="has a line for each prediction, and cannot hold"):
        predict_file(broken, tmp_path / "in.txt", tmp_path / "bad.txt", say=quiet)
    assert not list(tmp_path.glob("bad*"))


@pytest.mark.parametrize("raw", ['\ufeff\n {"text": "w1", "id": 7}\n{"text": "w2"}\n', "w1\nw2\n"])
def test_the_standard_input_and_output(model, monkeypatch, capsysbinary, raw):
    class Pipe:
        buffer = io.BytesIO(raw.encode())

    monkeypatch.setattr("sys.stdin", Pipe)
    predict_file(model, "-", "-", say=quiet)
    rows = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["w1", "w2"] and rows[0].get("id") == (7 if "{" in raw else None)
    assert [row["prediction"] for row in rows] == [p.label for p in model.predict(["w1", "w2"])]


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_a_list_of_objects_is_read_through_a_window(tmp_path, monkeypatch, block):
    """Wherever its blocks end: inside a character, a number, a string, between objects."""
    monkeypatch.setattr(packed, "BLOCK", block)
    rows = [{"text": t, "n": -1.5e-3, "deep": [{"a": None}, 12345678901]} for t in ODD] + [{}]
    for indent in (None, 2):
        (tmp_path / "in.json").write_text(" \n" + json.dumps(rows, ensure_ascii=indent is None, indent=indent) + "\n\n")
        assert list(open_stream(tmp_path / "in.json")) == rows
    (tmp_path / "in.json").write_bytes(json.dumps(rows, indent=2).encode() + b"\n \xe9")
    with pytest.raises(ValueError, match=f"line {json.dumps(rows, indent=2).count(chr(10)) + 2}, is not UTF-8"):
        open_stream(tmp_path / "in.json")


def test_a_damaged_list_is_not_read_to_its_end(tmp_path):
    """The error is where the damage is, and what follows is not held."""
    good = '{"text": "w1"},\n' * 50_000
    (tmp_path / "in.json").write_text("[" + good + '{"text": w2},\n' + good * 10 + '{"text": "w3"}]')
    tracemalloc.start()
    with pytest.raises(ValueError, match="line 50001, is not JSON"):
        open_stream(tmp_path / "in.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json"])
def test_memory_does_not_grow_with_the_file(model, tmp_path, kind, monkeypatch):
    """At most a few hundred kilobytes beside a file of four megabytes."""
    monkeypatch.setattr(
        Model,
        "predict",
        lambda self, texts, pairs, precision: [type("P", (), {"label": "no", "scores": {}})()] * len(texts),
    )
    record = '{{"text": "{}", "id": "w1"}}'
    lines = {".csv": '"{}",w1\n', ".tsv": "{}\tw1\n", ".jsonl": record + "\n", ".json": record + ",\n"}
    first = {".csv": "text,id\n", ".tsv": "text\tid\n", ".jsonl": "", ".json": "["}[kind]
    whole = first + lines[kind].format("x" * 1000) * 4000
    (tmp_path / f"in{kind}").write_text(whole.removesuffix(",\n") + "]" if kind == ".json" else whole)
    tracemalloc.start()
    seen: list[int] = []
    found = predict_file(
        model, tmp_path / f"in{kind}", tmp_path / f"out{kind}", chunk=50, on_chunk=seen.append, say=quiet
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["rows"] == 4000 == sum(seen) and peak < 1_000_000


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5), st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]))
def test_what_is_streamed_is_what_is_read_whole(tmp_path_factory, rows, kind):
    """Any cells, written quoted or as JSON: the same columns and rows as `read_table` gives, and again after writing them."""
    path = tmp_path_factory.mktemp("s") / f"a{kind}"
    with open(path, "w", newline="", encoding="utf-8") as file:
        if kind == ".jsonl":
            file.writelines(json.dumps({"one": a, "two": b}) + "\n" for a, b in rows)
        elif kind == ".json":
            json.dump([{"one": a, "two": b} for a, b in rows], file)
        else:
            writer = csv.writer(file, delimiter="\t" if kind == ".tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writerows([("one", "two"), *rows])
    streamed = list(open_stream(path))
    assert streamed == as_table(path) == [{"one": a, "two": b} for a, b in rows]
    copy = path.with_name(f"b{kind}")
    like = open_stream(path)
    with write_stream(copy, like.columns, like) as (put, _):
        for row in like:
            put(row)
    assert list(open_stream(copy)) == streamed


@settings(max_examples=80, deadline=None)
@given(st.text('ab1"\t\n,; ', max_size=40), st.sampled_from([".csv", ".tsv"]))
def test_rough_files_are_read_as_they_are_whole(tmp_path_factory, raw, kind):
    """Of any file: either both refuse it, or both read the same."""
    path = tmp_path_factory.mktemp("r") / f"a{kind}"
    path.write_text(raw, newline="")
    try:
        whole = as_table(path)
    except ValueError:
        with pytest.raises(ValueError):
            list(open_stream(path))
        return
    assert list(open_stream(path)) == whole


def test_a_header_is_what_names_columns():
    assert is_header(["text", "label"]) and not is_header(["text", "1.5"]) and not is_header(["a", "a"])
    assert not is_header(["text", "x" * 65])
