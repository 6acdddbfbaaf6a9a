"""Tables: every format gives the same columns, hostile files name their line, guesses are said."""

import gzip
import json
import lzma

import pandas
import pytest

from bertsmith.examples import guess_task, take_examples
from bertsmith.split import cut
from bertsmith.table import guess, read_table

ROWS = [
    {"text": 'She said "no", twice.', "label": "bad"},
    {"text": "A naïve café\tcosts 5 €", "label": "good"},
    {"text": "two\nlines; or more, perhaps", "label": "good"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}


def silent(line: str) -> None:
    pass


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.xz", ".tsv", ".parquet", ".jsonl", ".jsonl.xz", ".json"])
def test_every_format_gives_the_same_columns(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    frame = pandas.DataFrame(ROWS)
    if suffix.startswith(".csv"):
        frame.to_csv(path, index=False)
    elif suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    else:
        raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
        path.write_bytes(lzma.compress(raw) if suffix.endswith("xz") else raw)
    assert read_table(path, say=silent).columns == COLUMNS


def test_frames_lists_and_tables_are_sources():
    frame = pandas.DataFrame(ROWS)
    assert read_table(frame).columns == read_table(ROWS).columns == COLUMNS
    table = read_table(pandas.DataFrame({"x": [1.0, None], "n": pandas.array([1, None], dtype="Int64")}))
    assert table.columns == {"x": [1.0, None], "n": [1, None]}
    assert read_table(table) is table


def test_a_tsv_with_bare_quotes_keeps_them(tmp_path):
    path = tmp_path / "glue.tsv"
    path.write_text('sentence\tlabel\n"unfinished quote\t1\n"whole" and more\t0\nit \'s\t1\n', encoding="utf-8")
    assert read_table(path).column("sentence") == ['"unfinished quote', '"whole" and more', "it 's"]


def test_missing_header_and_separator_are_noticed_and_said(tmp_path):
    path, said = tmp_path / "sts.csv", []
    path.write_text("A man sings.,Somebody sings.,3.8\nOne.,Two.,0.2\n", encoding="utf-8-sig")
    table = read_table(path, say=said.append)
    assert list(table.columns) == ["column_1", "column_2", "column_3"] and len(table) == 2 and "no header" in said[0]
    path.write_text("text;label\na, b;x\nc;y\n", encoding="utf-8")
    assert read_table(path, say=said.append).columns == {"text": ["a, b", "c"], "label": ["x", "y"]}
    assert "semicolons" in said[1]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"text,label\nfine,1\nbroken\xff,0\n", "line 3.*UTF-8"),
        ("b.csv", b"text,label\na,1\nb,1,extra\n", "line 3.*3 cells"),
        ("c.csv", b'text,label\n"never closed,1\n', "line 2"),
        ("d.jsonl", b'{"text": "a"}\n{"text": \n', "line 2.*JSON"),
        ("e.jsonl", b'{"text": "a"}\n[1]\n', "entry 2"),
        ("f.tsv", b"text\tlabel\na\n", "row 2.*1 cells"),
        ("g.csv", b"", "empty"),
        ("h.csv", b"text,label\n", "no rows"),
        ("i.csv", b"text,text\na,b\n", "twice|no rows"),
        ("j.parquet", b"PAR1 not really", "parquet"),
        ("k.csv.gz", b"not gzip", "unpacked"),
        ("l.docx", b"?", "neither"),
    ],
)
def test_broken_files_name_what_is_wrong(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        read_table(path, header=True, say=silent)
    assert name in str(error.value)


def test_a_cell_of_a_million_characters_is_read(tmp_path):
    path = tmp_path / "long.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"x" * 1_000_000 + b",1\n"))
    assert len(read_table(path).column("text")[0]) == 1_000_000


def test_columns_are_guessed_by_name_then_by_shape_and_said():
    said: list[str] = []
    glue = read_table([{"index": i, "sentence1": "a b", "sentence2": "c", "label": i % 2} for i in range(9)])
    assert guess(glue, say=said.append) == ("sentence1", "sentence2", "label") and "sentence2" in said[0]
    odd = read_table([{"id": i, "what was written": f"word {i} and more", "how": i % 3} for i in range(30)])
    assert guess(odd, say=said.append) == ("what was written", None, "how")
    given = guess(glue, text="sentence2", label="index", say=said.append)
    assert given == ("sentence2", None, "index") and len(said) == 2
    with pytest.raises(KeyError, match="sentence1"):
        guess(glue, text="sentence", say=silent)
    with pytest.raises(ValueError, match="label=.*'a', 'b'"):
        guess(read_table([{"t": f"some text {i}", "a": i, "b": i} for i in range(9)]), text="t", say=silent)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (["a", "b", "a"], "single_label"),
        ([0, 1, 1], "single_label"),
        ([True, False], "single_label"),
        (["1", "5", "3"], "single_label"),
        ([1.0, 0.0, None], "single_label"),
        (["a;b", "c"], "single_label"),
        (["a;b", "b", "c"], "multi_label"),
        (["joy|love", "", "love"], "multi_label"),
        ([["x"], [], ["x", "y"]], "multi_label"),
        ([0.5, 2, 3], "regression"),
        (["0.25", "4"], "regression"),
        (list(range(21)), "regression"),
        (["nan", "1.5"], "single_label"),
    ],
)
def test_the_task_follows_from_the_labels(raw, kind):
    assert guess_task(raw).kind == kind


def test_rows_without_text_or_label_are_left_out_aloud():
    said: list[str] = []
    table = read_table([{"t": "a", "y": "1"}, {"t": " ", "y": "0"}, {"t": "b", "y": None}, {"t": "c", "y": ""}])
    assert take_examples(table, "t", None, "y", say=said.append).text == ["a"]
    assert [line.split(": ")[1][:6] for line in said] == ["1 of 4", "2 of 4"]
    assert take_examples(table, "t", None, "y", unlabelled=True, say=silent).text == ["a", "b", "c"]


def test_splits_are_stratified_pure_and_keep_equal_texts_together():
    texts = [f"text {i % 900}" for i in range(1000)]
    classes = ["rare" if i % 900 < 45 else "common" for i in range(1000)]
    kept, off = cut(texts, classes, 0.1, 0, "test")
    assert sorted(kept + off) == list(range(1000)) and not {texts[i] for i in kept} & {texts[i] for i in off}
    assert abs(len(off) - 100) <= 15 and abs(sum(classes[i] == "rare" for i in off) - 9) <= 3
    back = cut(texts[::-1], classes[::-1], 0.1, 0, "test")
    assert {texts[i] for i in off} == {texts[::-1][i] for i in back[1]}
    assert set(off) != set(cut(texts, classes, 0.1, 1, "test")[1]) and set(off) != set(
        cut(texts, classes, 0.1, 0, "valid")[1]
    )
    assert cut(["a", "b", "c", "d", "e", "f"], ["x", "x", "y", "y", "y", "y"], 0.5, 0, "test")[1]
    assert not {0, 1} & set(cut(["a", "b", "c", "d", "e", "f"], ["x", "x", "y", "y", "y", "y"], 0.5, 0, "test")[1])
