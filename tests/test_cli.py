"""The command line: quick help, JSON, exit codes, one clear line a failure; and the whole way, small."""

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertsmith import cli, doctor
from bertsmith.demo import ASSETS, demo

TEXT = "the cat sat on the mat .\nthe dog lay on the log .\n\nthe cow ran to the barn .\nthe hen saw the cow .\n\n"
SMALL = ["stages.0.data.rows=2", "stages.0.data.length=16", "workers=0"]


def run(monkeypatch, capsys, *words):
    """(exit code, standard output, standard error) of a command, in this process."""
    monkeypatch.setattr(sys, "argv", ["bertsmith", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['bertsmith', '--help']\n"
        "from bertsmith.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'tokenizers', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in (
        *("demo", "tokenizer", "prepare", "pretrain", "finetune", "evaluate", "predict", "encode", "fill"),
        *("multitask", "augment", "diet", "adapter", "serve", "export"),
    ):
        assert command in done.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model, pre-trained through the command line; and the folder with its text and its labelled table."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(TEXT * 20)
    animals, places = {"cat": "pet", "dog": "pet", "cow": "farm", "hen": "farm"}, ("mat", "log", "barn", "cat", "dog")
    rows = [f"the {animal} sat on the {place} .,{kind}" for animal, kind in animals.items() for place in places]
    (folder / "table.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        words = [
            "pretrain",
            "bert_tiny",
            "--data",
            folder / "text.txt",
            "--vocab",
            "60",
            "--budget",
            "3-steps",
            "--out",
            folder / "run",
        ]
        patch.setattr(sys, "argv", ["bertsmith", *map(str, words), *SMALL, "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return folder


def test_pretrain_in_pieces_is_the_same(model, tmp_path, monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch,
        capsys,
        "tokenizer",
        "train",
        model / "text.txt",
        "--size",
        "60",
        "--out",
        tmp_path / "tokenizer",
        "--json",
    )
    assert code == 0 and json.loads(out)["size"] <= 60
    words = (
        "prepare",
        model / "text.txt",
        "--tokenizer",
        tmp_path / "tokenizer",
        "--out",
        tmp_path / "data",
        "--workers",
        "0",
    )
    code, out, _ = run(monkeypatch, capsys, *words, "--json")
    assert code == 0 and json.loads(out)["documents"] == 40
    words = (
        "pretrain",
        "bert_tiny",
        "--data",
        tmp_path / "data",
        "--budget",
        "3-steps",
        "--out",
        tmp_path / "run",
        *SMALL,
        "--json",
    )
    code, out, _ = run(monkeypatch, capsys, *words)
    assert code == 0 and json.loads(out)["last"]["step"] == 3
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (model / "run" / "model.safetensors").read_bytes()


def test_fill_encode_and_reports(model, tmp_path, monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch, capsys, "fill", model / "run", "the [MASK] sat on the [MASK] .", "--top", "2", "--json"
    )
    guesses = json.loads(out)[0]["guesses"]
    assert code == 0 and [len(mask) for mask in guesses] == [2, 2] and 0 < guesses[0][0]["probability"] < 1
    code, out, _ = run(monkeypatch, capsys, "fill", model / "run", "the [MASK] sat .")
    assert code == 0 and "1: " in out and "%" in out
    code, out, _ = run(
        monkeypatch, capsys, "encode", model / "run", model / "table.csv", "--out", tmp_path / "v.npy", "--json"
    )
    vectors = np.load(tmp_path / "v.npy")
    assert (
        code == 0
        and vectors.shape == (20, 128)
        and vectors.dtype == np.float32
        and json.loads(out)["shape"] == [20, 128]
    )
    lines = tmp_path / "lines.txt.gz"  # a text a line, and a line is what ends in \n
    lines.write_bytes(gzip.compress("one\u2028line\r\n\nanother\n".encode()))
    code, out, _ = run(monkeypatch, capsys, "encode", model / "run", lines, "--out", tmp_path / "v.npy", "--json")
    assert code == 0 and json.loads(out)["shape"] == [2, 128]
    code, out, _ = run(monkeypatch, capsys, "report", model / "run")
    assert code == 0 and out.strip() == str(model / "run" / "report.html")


def test_finetune_evaluate_predict(model, tmp_path, monkeypatch, capsys):
    words = (
        "finetune",
        model / "run",
        model / "table.csv",
        "--text",
        "text",
        "--label",
        "label",
        "--out",
        tmp_path / "tuned",
    )
    code, out, _ = run(monkeypatch, capsys, *words, "--epochs", "1", "--batch", "8", "--json")
    found = json.loads(out)
    assert code == 0 and found["labels"] == ["farm", "pet"] and {"majority", "tfidf"} <= set(found["baselines"])
    code, out, _ = run(monkeypatch, capsys, "evaluate", tmp_path / "tuned", model / "table.csv", "--json")
    assert code == 0 and 0 <= json.loads(out)["accuracy"] <= 1
    code, out, _ = run(
        monkeypatch, capsys, "evaluate", model / "run", model / "text.txt", "--by", "masked-lm", "--limit", "4"
    )
    assert code == 0 and "loss" in out and "accuracy" in out
    (tmp_path / "lines.txt").write_text("the cat sat .\n\nthe cow ran .\n")
    code, out, _ = run(monkeypatch, capsys, "predict", tmp_path / "tuned", tmp_path / "lines.txt", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(answers) == 2 and set(answers[0]["scores"]) == {"farm", "pet"}


def test_finetune_with_a_curve_a_dictionary_and_weights(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "words.dic").write_text("%\n1\tpets\n2\tfarm\n%\ncat\t1\ndog*\t1\ncow\t2\n")
    words = (
        "finetune",
        model / "run",
        model / "table.csv",
        "--text",
        "text",
        "--label",
        "label",
        "--out",
        tmp_path / "t",
    )
    more = ("--dictionary", tmp_path / "words.dic", "--sizes", "4,8", "--task", "single_label:weights=balanced")
    code, out, _ = run(monkeypatch, capsys, *words, *more, "--epochs", "2", "--patience", "1", "--batch", "8", "--json")
    found = json.loads(out)
    assert code == 0 and set(found["baselines"]) == {"majority", "tfidf", "dictionary"}
    assert set(found["task"]["weights"]) == {"farm", "pet"} and found["settings"]["patience"] == 1
    points = json.loads((tmp_path / "t/curve.json").read_text())["points"]
    assert [point["size"] for point in points] == [4, 8] and "dictionary" in points[0]["baselines"]
    assert "Training size" in (tmp_path / "t/report.html").read_text()


def test_predict_through_pipes(model, tuned, tmp_path, monkeypatch, capsys):
    """Objects in, objects out, and nothing else on the standard output; a file's ending says its format."""
    rows = [{"id": i, "text": text} for i, text in enumerate(("the cat sat .", "", "the cow ran ."))]
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    given = type("Pipe", (), {"buffer": io.BytesIO(raw)})
    monkeypatch.setattr(sys, "stdin", given)
    code, out, _ = run(monkeypatch, capsys, "predict", tuned, "-", "--out", "-")
    back = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [{"id": row["id"], "text": row["text"]} for row in back] == rows
    (tmp_path / "in.jsonl").write_bytes(raw)
    code, out, _ = run(monkeypatch, capsys, "predict", tuned, tmp_path / "in.jsonl", "--out", tmp_path / "out.txt")
    assert code == 0 and "3 rows" in out
    assert (tmp_path / "out.txt").read_text().split("\n")[:3] == [row["prediction"] or "" for row in back]


@pytest.fixture(scope="module")
def tuned(model, tmp_path_factory):
    """The tiny model with LoRA and a head for the table, and its adapter."""
    out = tmp_path_factory.mktemp("tuned") / "lora"
    words = ["finetune", model / "run", model / "table.csv", "--out", out, "--epochs", "1", "--method", "lora:rank=2"]
    words += ["--pool", "bert"]  # so that a stock class holds it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bertsmith", *map(str, words), "--baselines", "none", "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return out


def test_an_adapter_goes_to_peft_and_comes_back(model, tuned, tmp_path, monkeypatch, capsys):
    out = tmp_path / "theirs"
    words = ("adapter", "export", model / "run", "--adapter", tuned / "adapter", "--out", out, "--base", "my/base")
    assert run(monkeypatch, capsys, *words)[0] == 0
    said = json.loads((out / "adapter_config.json").read_text())
    assert (said["peft_type"], said["r"], said["base_model_name_or_path"]) == ("LORA", 2, "my/base")
    words = ("adapter", "import", model / "run", out, "--out", tmp_path / "ours", "--labels", "farm,pet", "--json")
    code, text, _ = run(monkeypatch, capsys, *words)
    assert code == 0 and json.loads(text)["paths"]
    answers = []
    for adapter in (tuned / "adapter", tmp_path / "ours"):
        words = ("predict", model / "run", model / "table.csv", "--text", "text", "--adapter", adapter, "--json")
        answers.append([json.loads(line) for line in run(monkeypatch, capsys, *words)[1].splitlines()])
    assert [a["label"] for a in answers[0]] == [a["label"] for a in answers[1]] and len(answers[0]) == 20
    for one, two in zip(*answers, strict=True):
        assert one["scores"] == pytest.approx(two["scores"], abs=1e-6)


def test_several_sets_at_once(model, tmp_path, monkeypatch, capsys):
    rows = [f'{{"words": "the {a} {v} .", "stars": {1 + i % 3}}}' for a in ("cat", "dog", "cow", "hen")
            for i, v in enumerate(("sat", "lay", "ran", "saw"))]  # fmt: skip
    (tmp_path / "stars.jsonl").write_text("\n".join(rows))
    words = ("multitask", model / "run", f"animal={model / 'table.csv'}", f"stars={tmp_path / 'stars.jsonl'}")
    words += ("--text", "stars=words", "--label", "stars=stars", "--task", "stars=ordinal", "--epochs", "1")
    code, out, _ = run(monkeypatch, capsys, *words, "--batch", "8", "--out", tmp_path / "out", "--json")
    found = json.loads(out)
    assert (
        code == 0 and found["animal"]["labels"] == ["farm", "pet"] and found["stars"]["task"]["kind"] == "task/ordinal"
    )
    code, out, _ = run(
        monkeypatch, capsys, "predict", tmp_path / "out" / "stars", tmp_path / "stars.jsonl", "--text", "words"
    )
    assert code == 0 and set(out.split()) <= {"1", "2", "3"} and len(out.split()) == 16


def test_texts_are_written_anew(model, tuned, tmp_path, monkeypatch, capsys):
    words = ["augment", model / "run", model / "table.csv", "--out", tmp_path / "more.csv"]
    words += "--epochs 1 --count 2".split()
    code, _, said = run(monkeypatch, capsys, *words)
    assert code == 2 and "'farm' and 'pet' are the same tokens" in said  # the vocabulary has neither
    words += ["--how", "expand"]
    code, out, _ = run(monkeypatch, capsys, *words, "--classifier", tuned, "--json")
    found = json.loads(out)
    assert code == 0 and (found["texts"], found["written"]) == (20, 40) and 0 <= found["preserved"] <= 1
    assert {"changed", "new_1"} <= set(found["diversity"])
    rows = list(csv.DictReader((tmp_path / "more.csv").read_text().splitlines()))
    old, new = ([row for row in rows if row["written"] == which] for which in "01")
    assert [row["text"] for row in old] == [x.split(",")[0] for x in (model / "table.csv").read_text().splitlines()[1:]]
    assert [row["row"] for row in new] == [str(i // 2) for i in range(40)]
    assert all(row["label"] == old[int(row["row"])]["label"] for row in new)


def test_texts_that_teach_least_are_left_out(model, tmp_path, monkeypatch, capsys):
    words = ("diet", model / "run", model / "table.csv", "--out", tmp_path / "out", "--drop", "0.25", "--runs", "1")
    code, out, _ = run(monkeypatch, capsys, *words, "--epochs", "1", "--baselines", "none", "--json")
    found = json.loads(out)
    rows = [json.loads(line) for line in (tmp_path / "out" / "diet.jsonl").read_text().splitlines()]
    assert code == 0 and found["diet"]["left_out"] == sum(not row["stays"] for row in rows) == round(0.25 * len(rows))
    assert rows == sorted(rows, key=lambda row: -row["el2n"]) and not any(row["stays"] for row in rows[:4])
    assert found["splits"]["train"] + found["diet"]["left_out"] == len(rows) and rows[0]["grand"] > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("fill", "nowhere", "a [MASK]"), "nowhere"),
        (("fill", "MODEL", "no mask here"), "has no [MASK]"),
        (("predict", "MODEL", "table.csv"), "was not fine-tuned"),
        (("encode", "MODEL", "none.csv", "--out", "v.npy"), "none.csv"),
        (("pretrain", "bert_huge", "--data", "text.txt", "--out", "x"), "no recipe 'bert_huge'; there are: "),
        (
            ("pretrain", "bert_tiny", "--data", "text.txt", "--out", "x", "--budget", "soon"),
            "cannot read the budget 'soon'",
        ),
        (("pretrain", "bert_tiny", "--data", "text.txt", "--out", "x", "encoder.depth"), "an override is PATH=VALUE"),
        (("pretrain", "bert_tiny", "--out", "x"), "say --data PATH"),
        (("prepare", "text.txt", "--tokenizer", "none", "--out", "x"), "none"),
        (("report", "."), "nothing to report"),
        (
            ("encode", "MODEL", "none.txt", "--out", "v.npy"),
            "no file 'none.txt'; it is a .txt (a text a line), a table",
        ),
        (("encode", "MODEL", "latin.txt", "--out", "v.npy"), "latin.txt, line 2, is not UTF-8 (byte 0xe9); convert it"),
        (("methods", "kitchen"), "no room 'kitchen'; there are: "),
        (
            ("finetune", "MODEL", "table.csv", "--out", "x", "--label", "colour"),
            "no column 'colour'; it has: 'text', 'label'",
        ),
        (
            ("finetune", "MODEL", "table.csv", "--out", "x", "--sizes", "10,many"),
            "--sizes is numbers of texts with commas",
        ),
        (
            ("finetune", "MODEL", "table.csv", "--out", "x", "--dictionary", "no.dic"),
            "no file 'no.dic'; --dictionary is",
        ),
        (
            ("finetune", "MODEL", "table.csv", "--out", "x", "--head", "tree"),
            "no head method 'tree'; there are: bert_pretraining",
        ),
    ],
)
def test_a_failure_is_one_line_and_code_2(model, monkeypatch, capsys, words, says):
    monkeypatch.chdir(model)
    monkeypatch.delenv("BERTSMITH_DATA", raising=False)
    Path("latin.txt").write_bytes("a text\ncaf\u00e9\n".encode("latin-1"))
    code, out, err = run(monkeypatch, capsys, *(model / "run" if word == "MODEL" else word for word in words))
    assert code == 2 and not out and says in err, err
    assert err.startswith("bertsmith: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("predict", "TUNED", "table.csv", "--out", "x.xlsx"), "x.xlsx ends in none of .csv, .tsv, .jsonl"),
        (("predict", "TUNED", "table.csv", "--text", "body", "--out", "x.csv"), "no column 'body'"),
        (("adapter", "export", "MODEL", "--out", "x"), "nothing"),
        (("adapter", "import", "MODEL", "nowhere", "--out", "x"), "nowhere"),
        (("multitask", "MODEL", "table.csv", "--out", "x"), "a set is NAME=FILE, each name once; got 'table.csv'"),
        (("multitask", "MODEL", "a=table.csv", "b=none.csv", "--out", "x"), "none.csv"),
        (("multitask", "MODEL", "a=table.csv", "b=table.csv", "--task", "c=ordinal", "--out", "x"), "tasks of c, but"),
        (("augment", "MODEL", "table.csv", "--out", "x.csv", "--how", "rhyme"), "there are: prepend, expand"),
        (("augment", "TUNED", "table.csv", "--out", "x.csv"), "has no masked-LM head"),
        (("augment", "MODEL", "table.csv", "--out", "x.csv", "--label", "colour"), "no column 'colour'"),
        (("diet", "MODEL", "table.csv", "--out", "x", "--by", "taste"), "no score 'taste'; there are: el2n, grand"),
        (("diet", "MODEL", "table.csv", "--out", "x", "--runs", "0"), "seeds is at least 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_last_line(model, tuned, monkeypatch, capsys, words, says):
    """Below the remarks on what was guessed."""
    monkeypatch.chdir(model)
    homes = {"MODEL": model / "run", "TUNED": tuned}
    code, out, err = run(monkeypatch, capsys, *(homes.get(word, word) for word in words))
    last = err.splitlines()[-1]
    assert code == 2 and not out and last.startswith("bertsmith: ") and says in last, err
    assert not Path("x").exists() and not Path("x.csv").exists()


def test_usage_errors_are_code_2_and_tracebacks_are_there_for_the_asking(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "fill", "--no-such-option")[0] == 2
    monkeypatch.setenv("BERTSMITH_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["bertsmith", "methods", "kitchen"])
    with pytest.raises(ValueError, match="kitchen"):
        cli.main()


@pytest.mark.parametrize(
    ("error", "code"), [(FloatingPointError("NaN at step 3"), 1), (RuntimeError("a worker died"), 1)]
)
def test_a_failed_run_is_code_1(monkeypatch, capsys, error, code):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert run(monkeypatch, capsys)[::2] == (code, f"bertsmith: {error}\n")


def test_doctor(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "doctor", "--json")
    found = json.loads(out)
    assert (
        code == 0 and found["gflops"]["fp32"] > 1 and found["precision"] in ("fp32", "bf16") and found["threads"] >= 1
    )
    doctor.show(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(found[what].split()) in shown for what in ("processor", "inference", "training"))


def test_doctor_decides_by_what_the_processor_has(monkeypatch):
    if doctor.torch.cuda.is_available():
        pytest.skip("a GPU decides instead")
    for flags, precision in ((frozenset({"avx2"}), "fp32"), (frozenset({"avx2", "avx512_bf16"}), "bf16")):
        monkeypatch.setattr(doctor, "processor", lambda flags=flags: ("any", flags))
        doctor.choose_precision.cache_clear()
        assert doctor.choose_precision() == precision
    doctor.choose_precision.cache_clear()


def test_threads_follow_the_environment_and_the_control_group(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert doctor.threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(doctor, "_cgroup_cpus", lambda: 0.5)
    assert doctor.threads() == 1


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match="no precision 'int3'; there are: bf16, fp32"):
        doctor.matmul_rate("int3")


def test_what_ships_is_whole_and_attributed():
    about = (ASSETS / "ATTRIBUTION.md").read_text()
    for path in ASSETS.iterdir():
        assert path.name in about or path.name == "ATTRIBUTION.md"
    train, test = ((ASSETS / f"clinc12_{name}.csv").read_text().splitlines()[1:] for name in ("train", "test"))
    assert (len(train), len(test)) == (1200, 360) and not set(train) & set(test)
    assert {line.rsplit(",", 1)[1] for line in train} == {line.rsplit(",", 1)[1] for line in test}


@pytest.mark.slow
@pytest.mark.parametrize("quick", [True, False])
def test_demo(tmp_path, quick):
    """Masked accuracy beats the commonest token's, and the classifier the majority class by ten points."""
    result = demo(tmp_path / "demo", quick=quick, progress=False)
    lm, test = result["masked_lm"], result["test"]
    assert lm["loss"] < lm["first_loss"]
    assert lm["accuracy"] > lm["commonest"]
    assert test["bert"] >= test["majority"] + 0.10
    assert result["seconds"] < (60 if quick else 300)
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
