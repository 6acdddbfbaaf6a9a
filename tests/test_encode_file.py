"""Vectors of tables of any size: every row in its place, memory flat, and the same bytes however often it was killed."""

import gzip
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.make import tokenizer as toy_tokenizer
from toy import held_elsewhere

import bertsmith
from bertsmith import bulk, cli
from bertsmith.bulk import encode_file, job, work
from bertsmith.hf.bert import bert_encoder
from bertsmith.model import Bundle, Model
from bertsmith.peak import Peak

VOCAB = 60


def made(seed: int = 0, dim: int = 16) -> Model:
    torch.manual_seed(seed)
    spec = bert_encoder(1, dim, 2, VOCAB, length=32, dropout=0.0)
    return Model(spec, Bundle(spec.build(), None), toy_tokenizer(VOCAB), max_length=32)


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture
def pq():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    import pyarrow.parquet

    return pyarrow.parquet


def rows(count: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    made = [" ".join(f"w{i}" for i in rng.integers(0, 50, rng.integers(1, 12))) for _ in range(count)]
    return [{"id": f"r{i}", "text": text, "n": i} for i, text in enumerate(made)]


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def quiet(line: str) -> None:
    pass


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def direct(model: Model, records: list[dict]) -> np.ndarray:
    return model.encode([record["text"] for record in records])


def read_npy(folder: Path) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """(vectors, mask, lines) of all shards."""
    names = sorted(path.name.split(".")[0] for path in folder.glob("*.mask.npy"))
    vectors, masks = (np.concatenate([np.load(folder / f"{n}{e}") for n in names]) for e in (".npy", ".mask.npy"))
    return vectors, masks, [json.loads(line) for n in names for line in (folder / f"{n}.jsonl").open()]


def test_every_row_with_its_vector_and_what_was_kept(model, tmp_path, pq):
    records, said, moved = rows(50), [], []
    found = bertsmith.encode_file(
        model, write(tmp_path / "in.jsonl", records), tmp_path / "out", keep=["id", "n"], shard=20,
        on_rows=lambda *now: moved.append(now), say=said.append,
    )  # fmt: skip
    assert sorted(content(tmp_path / "out")) == [f"{n:06}.parquet" for n in range(3)] + ["_about.json"]
    table = pq.read_table(tmp_path / "out")  # other tools pass _about.json over
    assert table.column_names == ["row", "id", "n", "vector"] and str(table.schema.field("n").type) == "int64"
    assert table["row"].to_pylist() == list(range(50)) == table["n"].to_pylist()
    assert table["id"].to_pylist() == [record["id"] for record in records]
    assert np.allclose(np.stack(table["vector"].to_pylist()), direct(model, records), atol=1e-6)
    assert moved == [(20, 50), (40, 50), (50, 50)] and said == [
        f"{tmp_path / 'in.jsonl'}: the text is in column 'text' (guessed)"
    ]
    about = json.loads((tmp_path / "out" / "_about.json").read_text())
    assert about["shards"]["000002"] == {"rows": 10, "empty": 0, "cut": 0} and about["rows"] == found["rows"] == 50
    assert about.items() >= model.engine.about().items() and about["weights"] == bulk.digest(model)
    given = {"pooling": "mean", "normalized": False, "max_length": 32, "promise": "default", "keep": ["id", "n"]}
    assert about.items() >= given.items()
    size = (tmp_path / "in.jsonl").stat().st_size
    assert [about["input"][0][name] for name in ("file", "bytes", "rows")] == ["in.jsonl", size, 50]
    assert 0 < found["tokenizing"] < 1 and 0 <= found["waiting"] < 1 and "seconds" not in about


def test_npy_with_a_mask(model, tmp_path):
    """Rows without text are zeros, and said to be so."""
    records = [*rows(7), {"id": "none"}, {"id": "null", "text": None}, {"id": "blank", "text": " "}, *rows(3, 1)]
    said: list[str] = []
    found = encode_file(
        model, write(tmp_path / "in.jsonl", records), tmp_path / "out", keep=["id"], format="npy", shard=5, say=said.append
    )  # fmt: skip
    vectors, mask, lines = read_npy(tmp_path / "out")
    full = [bool((record.get("text") or "").strip()) for record in records]
    assert mask.tolist() == full and vectors.dtype == np.float32 and not vectors[~mask].any()
    assert np.allclose(
        vectors[mask], direct(model, [r for r, there in zip(records, full, strict=True) if there]), atol=1e-6
    )
    assert lines == [{"row": i, "id": record["id"]} for i, record in enumerate(records)]
    assert found["empty"] == 3 and said[-1] == "3 of 13 rows have no text, and so no vector"


def test_a_row_without_text_is_null_in_parquet(model, tmp_path, pq):
    (tmp_path / "in.txt").write_text("w1\n\nw2 w3\n")
    for out in ("folder", "one.parquet"):
        encode_file(model, tmp_path / "in.txt", tmp_path / out, normalize=True, shard=2, say=quiet)
        vectors = pq.read_table(tmp_path / out)["vector"].to_pylist()
        assert vectors[1] is None and np.allclose([np.linalg.norm(vectors[0]), np.linalg.norm(vectors[2])], 1)
    (tmp_path / "in.txt").write_text("\n\n\n")
    assert encode_file(model, tmp_path / "in.txt", tmp_path / "none", say=quiet)["empty"] == 3
    assert pq.read_table(tmp_path / "none")["vector"].to_pylist() == [None] * 3


def test_texts_that_are_cut_are_counted(model, tmp_path):
    (tmp_path / "in.txt").write_text(("w1 " * 50 + "\n") * 3 + "w2\n")
    said: list[str] = []
    found = encode_file(model, tmp_path / "in.txt", tmp_path / "out", format="npy", shard=2, say=said.append)
    assert found["cut"] == 3 and said[-1] == "3 of 4 texts were longer than the model reads, and were cut"
    assert (
        encode_file(model, tmp_path / "in.txt", tmp_path / "short", max_length=2, format="npy", say=quiet)["cut"] == 4
    )


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json", ".txt", ".csv.gz", ".jsonl.xz", ".parquet"])
def test_every_kind_of_table(model, tmp_path, kind):
    records = rows(9)
    if kind == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records), tmp_path / f"in{kind}", row_group_size=4)
    elif kind == ".txt":
        (tmp_path / "in.txt").write_text("\n".join(record["text"] for record in records))
    else:
        from bertsmith.stream import write_stream

        with write_stream(tmp_path / f"in{kind}", {"id": str, "text": str, "n": int}) as (put, _):
            for record in records:
                put(record)
    keep = [] if kind == ".txt" else ["n"]
    encode_file(model, tmp_path / f"in{kind}", tmp_path / "out", keep=keep, format="npy", shard=4, say=quiet)
    vectors, _, lines = read_npy(tmp_path / "out")
    assert np.allclose(vectors, direct(model, records), atol=1e-6)
    assert [int(line.get("n", line["row"])) for line in lines] == list(range(9))


def test_several_tables_and_folders(model, tmp_path, pq):
    """One after the other, with row numbers that go on; a type that tables do not share becomes text."""
    import pyarrow as pa

    records = rows(12)
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "b.jsonl", records[4:8])
    pq.write_table(pa.Table.from_pylist(records[:4]), folder / "a.parquet")
    with gzip.open(tmp_path / "c.csv.gz", "wt") as file:
        file.write("text,id,n\n" + "".join(f"{r['text']},{r['id']},{r['n']}\n" for r in records[8:]))
    for name in ("notes.md", ".hidden.csv", "_about.json"):
        (folder / name).write_text("nothing")
    encode_file(model, [folder, tmp_path / "c.csv.gz"], tmp_path / "out", keep=["n", "id"], shard=5, say=quiet)
    table = pq.read_table(tmp_path / "out")
    assert table["row"].to_pylist() == list(range(12)) and table["n"].to_pylist() == [str(i) for i in range(12)]
    assert np.allclose(np.stack(table["vector"].to_pylist()), direct(model, records), atol=1e-6)
    about = json.loads((tmp_path / "out" / "_about.json").read_text())
    assert [(one["file"], one["rows"]) for one in about["input"]] == [("a.parquet", 4), ("b.jsonl", 4), ("c.csv.gz", 4)]
    for out in (folder, folder / "x.parquet", folder / "a.parquet"):
        with pytest.raises(ValueError, match="say another place for the vectors"):
            encode_file(model, folder, out, say=quiet)


def test_types_of_parquet_stay(model, tmp_path, pq):
    import datetime

    import pyarrow as pa

    columns = {"text": ["w1", "w2"], "day": [datetime.date(2020, 1, 1)] * 2, "tags": [["a"], None]}
    table = pa.table(columns | {"small": pa.array([1, None], pa.int8())})
    pq.write_table(table, tmp_path / "in.parquet")
    encode_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet", keep=["small", "day", "tags"], say=quiet)
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.select(["day", "tags", "small"]).equals(table.select(["day", "tags", "small"]))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("out", ["out", "out.parquet", "npy"])
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(model, tmp_path, monkeypatch, out):
    """At every slice, between a shard and its entry, and while shards are joined."""
    format = "npy" if out == "npy" else "parquet"
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    monkeypatch.setattr(work, "SLICE", 4)
    source = write(tmp_path / "in.jsonl", rows(30))
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()

    def go(folder: str) -> dict:
        return encode_file(model, source, tmp_path / folder / out, keep=["id"], format=format, shard=10, say=quiet)

    go("whole")
    computed: list[int] = []
    real = Model.pooled

    def stops_at(which: int, place, name: str) -> None:
        before, calls = getattr(place, name), []

        def stopping(*given):
            calls.append(1)
            if len(calls) == which:
                raise Killed
            return before(*given)

        with monkeypatch.context() as patch:
            patch.setattr(place, name, stopping)
            with pytest.raises(Killed):
                go("stopped")

    for which in (1, 2, 4, 3):  # a shard has three slices
        stops_at(which, Model, "pooled")
    stops_at(1, job.Job, "add")
    if out == "out.parquet":
        stops_at(1, job, "join")
        stops_at(2, job, "write_atomic")  # what stands beside the whole
    monkeypatch.setattr(Model, "pooled", lambda *given: computed.append(1) or real(*given))
    go("stopped")
    assert len(computed) < 9 and content(tmp_path / "stopped") == content(tmp_path / "whole")
    computed.clear()
    go("stopped")
    assert not computed and content(tmp_path / "stopped") == content(tmp_path / "whole")


def test_a_lost_shard_is_made_again(model, tmp_path):
    source, out = write(tmp_path / "in.jsonl", rows(30)), tmp_path / "out"
    encode_file(model, source, out, format="npy", shard=10, say=quiet)
    before, said = content(out), []
    (out / "000001.mask.npy").unlink()
    encode_file(model, source, out, format="npy", shard=10, say=said.append)
    assert content(out) == before and f"{out}: going on; 2 of 3 shards are there" in said


def test_another_job_is_refused(model, tmp_path):
    source, out = write(tmp_path / "in.jsonl", rows(6)), tmp_path / "out"

    def go(using=model, **other):
        encode_file(using, source, out, **{"format": "npy", "say": quiet} | other)

    go()
    before = content(out)
    for other, says in (
        ({"using": made(1)}, "weights was .*, is "),
        ({"precision": "exact"}, 'promise was "default", is "exact"'),
        ({"pooling": "first", "normalize": True}, 'pooling was "mean", is "first"; normalized was false, is true'),
        ({"max_length": 8}, "max_length was 32, is 8"),
        ({"keep": ["id"]}, r'keep was \[\], is \["id"\]'),
        ({"shard": 3}, "shard was 16384, is 3"),
    ):
        with pytest.raises(ValueError, match=f"is of another job.*{says}"):
            go(**other)
    write(source, [*rows(5), {"id": "r5", "text": "w1", "n": 5}])
    with pytest.raises(ValueError, match=r"input\.0\.digest was|input\.0\.bytes was"):
        go()
    write(source, rows(7))
    with pytest.raises(ValueError, match=r"input\.0\.rows was 6, is 7"):
        go()
    assert content(out) == before


@pytest.mark.parametrize(
    ("out", "options", "says"),
    [
        ("there.parquet", {}, "is there, and not from this command"),
        ("full", {}, "holds other files, and no _about.json"),
        ("there", {}, "is a file; say a folder"),
        ("v.csv", {}, "go into a folder, or into one file that ends in .parquet"),
        ("v", {"keep": ["none"]}, "no column 'none'; it has: 'id', 'text', 'n'"),
        ("v", {"text": "body"}, "no column 'body'"),
        ("v", {"keep": ["id", "id"]}, "two columns 'id'"),
        ("v", {"keep": ["id"], "vector": "id"}, "two columns 'id'"),
        ("v", {"format": "hdf5"}, "no format 'hdf5'; there are: parquet, npy"),
        ("v.parquet", {"format": "npy"}, "holds parquet"),
        ("v", {"shard": 0}, "one row at least"),
        ("v", {"precision": "best"}, "no precision 'best'"),
        ("v", {"pooling": "best"}, "best"),
        ("v", {"source": "-"}, "made of files"),
        ("v", {"source": "full"}, "no table in the folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(model, tmp_path, monkeypatch, out, options, says):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", rows(3))
    (tmp_path / "full").mkdir()
    for name in ("there.parquet", "there", "full/notes"):
        (tmp_path / name).write_text("mine")
    before = content(tmp_path)
    with pytest.raises((ValueError, KeyError, FileNotFoundError), match=says):
        encode_file(model, **{"source": "in.jsonl", "out": out, "say": quiet} | options)
    assert content(tmp_path) == before and sorted(p.name for p in tmp_path.iterdir()) == [
        "full",
        "in.jsonl",
        "there",
        "there.parquet",
    ]


def test_a_table_that_shrinks_is_noticed(model, tmp_path, monkeypatch):
    source, real = write(tmp_path / "in.jsonl", rows(30)), job.Job._take_up
    monkeypatch.setattr(job.Job, "_take_up", lambda self: (real(self), write(source, rows(15))))
    with pytest.raises(ValueError, match="row 15 is missing of 30: a table was changed while it was read"):
        encode_file(model, source, tmp_path / "out", format="npy", shard=10, say=quiet)


def test_an_encoder_that_the_kernel_does_not_know(model, tmp_path, monkeypatch):
    """Torch computes it, with the same rows, places and numbers."""
    records = rows(40)
    monkeypatch.setattr(type(model.engine), "pooled", lambda self, *given: None)
    encode_file(model, write(tmp_path / "in.jsonl", records), tmp_path / "out", format="npy", shard=16, say=quiet)
    monkeypatch.undo()
    assert np.allclose(
        read_npy(tmp_path / "out")[0], model.encode([r["text"] for r in records], precision="exact"), atol=0.05
    )


def test_memory_does_not_grow_with_the_rows(model, tmp_path, monkeypatch):
    """Of the kernel's account: six times as many rows take no more, while what is kept of them alone is 24 megabytes."""
    with Peak() as probe:
        pass
    if probe.memory is None:
        pytest.skip("this system does not tell the most memory that a process had")
    monkeypatch.setattr(Model, "pooled", lambda self, codes, *how: np.ones((len(codes), 16), np.float32))
    grown = {}
    for name, count in (("warm", 1_000), ("few", 1_000), ("many", 6_000)):
        with open(tmp_path / f"{name}.jsonl", "w") as file:
            file.writelines(json.dumps({"text": f"w{i % 50}", "note": f"{i}" * 1000}) + "\n" for i in range(count))
        with Peak() as peak:
            given = tmp_path / f"{name}.jsonl", tmp_path / name
            encode_file(model, *given, keep=["note"], format="npy", shard=3_000, say=quiet)
        grown[name] = peak.memory - peak.before
    assert grown["many"] < grown["few"] + 8_000_000, grown


@pytest.fixture
def desk(model, tmp_path, monkeypatch):
    """A folder with a model and a table."""
    model.save(tmp_path / "model")
    write(tmp_path / "in.jsonl", rows(30))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["bertsmith", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, *capsys.readouterr()


def test_the_command(model, desk, monkeypatch, capsys):
    words = ("encode", "model", "in.jsonl", "--out", "emb", "--keep", "id,n", "--format", "npy", "--shard", "8")
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0 and "30 rows in emb; " in out and "the tokenizer worked for" in out and "guessed" in err
    vectors, _, lines = read_npy(desk / "emb")
    assert np.allclose(vectors, direct(model, rows(30)), atol=1e-6) and lines[29] == {"row": 29, "id": "r29", "n": 29}
    code, out, err = run(monkeypatch, capsys, *words, "--json")
    assert code == 0 and json.loads(out)["rows"] == 30 and "4 of 4 shards are there" in err
    code, _, err = run(monkeypatch, capsys, *words, "--precision", "exact")
    assert code == 2 and 'promise was "default", is "exact"' in err
    code, _, err = run(monkeypatch, capsys, "encode", "model", "in.jsonl", "--out", "v.npy", "--keep", "id")
    assert code == 2 and "say --out FOLDER" in err
    assert run(monkeypatch, capsys, "encode", "model", "in.jsonl", "--out", "v.npy")[0] == 0
    assert np.allclose(np.load("v.npy"), vectors, atol=1e-6) and json.loads(Path("v.npy.json").read_text())["cut"] == 0


def command(*more: str) -> list[str]:
    words = ["encode", "model", "in.jsonl", "--keep", "id", "--shard", "400", "--text", "text", *more]
    return [sys.executable, "-c", "from bertsmith.cli import main; main()", *words]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_bytes(desk):
    """SIGKILL five times, at least three of them in the middle of the work; shards that were done are not done again."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    write(desk / "in.jsonl", rows(8_000))
    made(dim=256).save(desk / "model")
    env = os.environ | {"PYTHONPATH": str(Path(bertsmith.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run(command("--out", "whole"), check=True, env=env, capture_output=True)
    rng, amid, kept = random.Random(0), 0, {}
    for _ in range(5):
        process = subprocess.Popen(
            command("--out", "killed"), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wanted = len(list(desk.glob("killed/*.parquet"))) + rng.randrange(3)  # so many are to be there
        while len(list(desk.glob("killed/*.parquet"))) < wanted + 1 and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        amid += process.wait() == -signal.SIGKILL
        about = json.loads((desk / "killed" / "_about.json").read_text())
        now = {name: (desk / "killed" / f"{name}.parquet").stat().st_mtime_ns for name in about["shards"]}
        assert now.items() >= kept.items()
        kept = now
    assert amid >= 3 and kept
    subprocess.run(command("--out", "killed"), check=True, env=env, capture_output=True)
    assert content(desk / "killed") == content(desk / "whole")
    assert all((desk / "killed" / f"{n}.parquet").stat().st_mtime_ns == t for n, t in kept.items())


def children(folder: str) -> list[int]:
    """The processes that do the work of a Ray whose files are in a folder: what its raylet has begun for our class."""
    said, parent = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            number, status = int(path.name), (path / "status").read_text()
            said[number] = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        parent[number] = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid"))
    raylets = {number for number, words in said.items() if "raylet/raylet" in words and folder in words}
    return [number for number, words in said.items() if parent.get(number) in raylets and "MapWorker" in words]


@pytest.mark.slow
def test_on_ray_with_a_worker_killed(tmp_path, monkeypatch):
    """Two local workers, one of them killed after the first shards: the same bytes as in one process."""
    ray = pytest.importorskip("ray", reason="ray is not installed (an extra)")
    pytest.importorskip("ray.data", reason="ray[data] is not installed (an extra)")
    (tmp_path / "token").write_text(secrets.token_hex(32))  # else Ray writes one into the user's home
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("PYTHONPATH", str(Path(bertsmith.__file__).parent.parent))
    source, model = write(tmp_path / "in.jsonl", rows(8_000)), made(dim=256)
    encode_file(model, source, tmp_path / "one", keep=["id"], shard=200, say=quiet)
    killed: list[int] = []

    def kills(now: int, left: int) -> None:
        if not killed:
            killed.extend(children(home)[:1])
            os.kill(killed[0], signal.SIGKILL)

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as home:  # sockets want a short name
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=1 << 27, _temp_dir=home, log_to_driver=False)
        try:
            found = encode_file(
                model, source, tmp_path / "two", keep=["id"], shard=200, workers=2, on_rows=kills, say=quiet
            )
        finally:
            ray.shutdown()
    assert killed and found["rows"] == 8_000 and content(tmp_path / "one") == content(tmp_path / "two")


def test_one_process_is_at_a_job_at_a_time(model, tmp_path):
    table, out = write(tmp_path / "t.jsonl", rows(9)), tmp_path / "out"
    out.mkdir()
    with held_elsewhere(out / "_about.json.lock"):
        with pytest.raises(ValueError, match="another process is at work in .*out"):
            encode_file(model, table, out, text="text", format="npy", say=quiet)
        assert [f.name for f in out.iterdir()] == ["_about.json.lock"]
    encode_file(model, table, out, text="text", format="npy", say=quiet)
    assert (out / "000000.npy").exists() and not (out / "_about.json.lock").exists()
