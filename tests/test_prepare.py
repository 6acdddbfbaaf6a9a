"""Preparing: the tokens are right, and a run that is killed goes on to the same bytes."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bertsmith.corpus.prepare import prepare
from bertsmith.corpus.read import documents
from bertsmith.corpus.shards import Shards
from bertsmith.tokenizer.load import load_tokenizer
from bertsmith.tokenizer.train import train_wordpiece

WORDS = "the of a in to was red green house tree river stone runs sings falls 1914 ( ) , . well-known".split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of text, one of them packed, and a tokenizer."""
    import lzma

    path, rng = tmp_path_factory.mktemp("prepare"), random.Random(5)

    def text(count: int) -> str:
        def paragraph() -> str:
            return " ".join(rng.choices(WORDS, k=rng.randrange(1, 40)))

        return "\n\n".join("\n".join(paragraph() for _ in range(rng.randrange(1, 6))) for _ in range(count))

    (path / "a.txt").write_text(text(400))
    (path / "b.txt.xz").write_bytes(lzma.compress((text(400) + "\n\n\x01\n\nlast").encode()))
    train_wordpiece(path / "a.txt", 90, path / "tokenizer")
    return path


def inputs(home: Path) -> list[str]:
    return [str(home / "a.txt"), str(home / "b.txt.xz")]


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_shards_hold_what_the_tokenizer_says(home: Path, tmp_path: Path) -> None:
    manifest = prepare(inputs(home), tmp_path / "out", home / "tokenizer", 0, chunk=20_000)
    shards, tokenizer = Shards(tmp_path / "out"), load_tokenizer(tmp_path / "out")
    wanted = [[tokenizer.encode(line, add_special_tokens=False).ids for line in d] for d in documents(inputs(home))]
    wanted = [d for d in ([line for line in d if line] for d in wanted) if d]
    assert shards.documents == len(wanted) == 801
    assert len(manifest["shards"]) > 10
    for number, document in enumerate(wanted):
        assert [line.tolist() for line in shards.lines(number)] == document
        assert shards.document(number).tolist() == sum(document, [])
    assert shards.lengths.tolist() == [sum(map(len, d)) for d in wanted]
    assert shards.tokens == shards.lengths.sum() == manifest["tokens"]
    assert manifest["words"] == sum(len(line.split()) for d in documents(inputs(home)) for line in d)
    assert manifest["skipped"] == {"paragraph without a token": 1, "document without a token": 1}
    assert shards.document(3).dtype == np.uint16 and not shards.document(3).flags.writeable
    with pytest.raises(IndexError, match="numbered from 0"):
        shards.document(801)


def test_the_number_of_workers_changes_no_byte(home: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        prepare(inputs(home), tmp_path / str(workers), home / "tokenizer", workers, chunk=30_000)
    assert content(tmp_path / "0") == content(tmp_path / "2")


KILLED = """
import sys, time
import bertsmith.corpus.chunk as chunk, bertsmith.corpus.prepare as prepare
write = chunk.write_atomic
def slow(path, data):
    time.sleep(0.01)
    write(path, data)
chunk.write_atomic = prepare.write_atomic = slow
prepare.prepare(sys.argv[3:], sys.argv[1], sys.argv[2], 2, chunk=20_000)
"""


def test_killed_again_and_again_it_ends_with_the_same_bytes(home: Path, tmp_path: Path) -> None:
    prepare(inputs(home), tmp_path / "whole", home / "tokenizer", 0, chunk=20_000)
    out, call = tmp_path / "out", [home / "tokenizer", *inputs(home)]
    orphans: list[psutil.Process] = []
    done: list[int] = []
    for wanted in (1, 4, 8):
        process = subprocess.Popen([sys.executable, "-c", KILLED, out, *call], env=dict(os.environ))
        while process.poll() is None and len(list((out / "parts").glob("shard-*.json"))) < wanted:
            time.sleep(0.002)
        orphans += psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it had not ended by itself
        done.append(len(list((out / "parts").glob("shard-*.json"))))
        assert not (out / "manifest.json").exists()
        with pytest.raises(FileNotFoundError, match="has not finished"):
            Shards(out)
    assert len(orphans) >= 3
    assert not psutil.wait_procs(orphans, timeout=3)[1]
    (out / "shard-00099.tokens").write_bytes(b"left over")
    prepare(inputs(home), out, home / "tokenizer", 2, chunk=20_000)
    assert done == sorted(done) and done[-1] >= 8
    assert content(out) == content(tmp_path / "whole")
    records: list[dict[str, int]] = []
    prepare(inputs(home), out, home / "tokenizer", 2, chunk=20_000, on_chunk=records.append)
    assert records == []  # all was done


def test_finished_shards_are_not_made_again(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bertsmith.corpus.prepare as module

    made: list[int] = []

    def stop(record: dict[str, int]) -> None:
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(inputs(home), tmp_path / "out", home / "tokenizer", 0, chunk=20_000, on_chunk=stop)
    write = module.write_shard
    numbers: list[int] = []
    monkeypatch.setattr(
        module, "write_shard", lambda chunk, *rest: (numbers.append(chunk.number), write(chunk, *rest))[1]
    )
    manifest = prepare(inputs(home), tmp_path / "out", home / "tokenizer", 0, chunk=20_000)
    assert numbers == list(range(3, len(manifest["shards"])))


def test_another_call_is_refused_or_starts_anew(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(home / "a.txt", out, home / "tokenizer", 0)
    with pytest.raises(ValueError, match="other inputs"):
        prepare(inputs(home), out, home / "tokenizer", 0)
    with pytest.raises(ValueError, match="other chunk"):
        prepare(home / "a.txt", out, home / "tokenizer", 0, chunk=1000)
    assert not (out / "parts").exists()
    train_wordpiece(home / "a.txt", 85, tmp_path / "other")
    with pytest.raises(ValueError, match="other tokenizer"):
        prepare(home / "a.txt", out, tmp_path / "other", 0)
    assert prepare(home / "a.txt", out, tmp_path / "other", 0, again=True)["vocabulary"] == 85
    prepare(home / "a.txt", tmp_path / "fresh", tmp_path / "other", 0)
    assert content(out) == content(tmp_path / "fresh")


def test_text_that_changed_under_an_interrupted_run_is_noticed(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one two\n\n" * 2000)

    def stop(record: dict[str, int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", home / "tokenizer", 0, chunk=2000, on_chunk=stop)
    source.write_text("two one\n\n" * 2000)
    with pytest.raises(ValueError, match="has changed since"):
        prepare(source, tmp_path / "out", home / "tokenizer", 0, chunk=2000)


def test_clear_words_for_what_cannot_be(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other files"):
        prepare(home / "a.txt", tmp_path / "other", home / "tokenizer", 0)
    assert [f.name for f in (tmp_path / "other").iterdir()] == ["letter.txt"]
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="no text in 1 input file.*1 x empty file"):
        prepare(tmp_path / "empty.txt", tmp_path / "out", home / "tokenizer", 0)
    with pytest.raises(FileNotFoundError, match="no prepared corpus"):
        Shards(home)
    prepare(home / "a.txt", tmp_path / "cut", home / "tokenizer", 0)
    with open(tmp_path / "cut" / "shard-00000.tokens", "ab") as file:
        file.truncate(10)
    with pytest.raises(ValueError, match="it has 10; prepare this corpus again"):
        Shards(tmp_path / "cut")


def test_two_at_once_do_not_meet(home: Path, tmp_path: Path) -> None:
    code = "import sys\nfrom bertsmith.corpus.prepare import prepare\nprepare(sys.argv[1], sys.argv[2], sys.argv[3], 0)"
    seen: list[str] = []

    def second(record: dict[str, int]) -> None:
        call = [sys.executable, "-c", code, home / "a.txt", tmp_path / "out", home / "tokenizer"]
        seen.append(subprocess.run(call, capture_output=True, text=True, env=dict(os.environ)).stderr)

    prepare(home / "a.txt", tmp_path / "out", home / "tokenizer", 0, on_chunk=second)
    assert "another process is preparing" in seen[0]


def test_stdin_and_tables(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"red tree\n\nthe house")))
    assert prepare("-", tmp_path / "a", home / "tokenizer", 0)["documents"] == 2
    (tmp_path / "t.jsonl").write_text(json.dumps({"body": "red tree"}) + "\n" + json.dumps({"body": 3}))
    manifest = prepare(tmp_path / "t.jsonl", tmp_path / "b", home / "tokenizer", 0, field="body")
    assert manifest["documents"] == 1 and manifest["skipped"] == {"row without text in the field 'body'": 1}


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    from tokenizers.models import WordPiece

    from bertsmith.tokenizer.train import SPECIAL, bert_pipeline

    tokens = [*SPECIAL, *(f"w{n}" for n in range(70_000))]
    tokenizer = bert_pipeline(WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"), True, 2, 3)
    (tmp_path / "a.txt").write_text("w1 w69999")
    prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer, 0)
    assert Shards(tmp_path / "out").document(0).tolist() == [6, 70_004]


@pytest.mark.slow
def test_a_line_of_100_mb_and_other_broken_files_through_the_command(home: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "endless.txt").open("wb") as file:
        for _ in range(100):
            file.write("zwölf tree stones ".encode() * ((1 << 20) // 19))
    (tmp_path / "in" / "empty.txt").write_text("")
    (tmp_path / "in" / "latin.txt").write_bytes("a green house\nFüße\n".encode("latin-1"))
    (tmp_path / "in" / "good.txt").write_text("the red tree\n")
    call = [sys.executable, "-m", "bertsmith", "prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    call += ["--tokenizer", str(home / "tokenizer")]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))
    me, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, sum(p.memory_info().rss for p in [me, *me.children(recursive=True)]))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.02)
    said = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, said
    for words in ("line of more than 1 MiB, cut", "empty", "latin.txt"):
        assert words in " ".join(said.split()), said
    shards = Shards(tmp_path / "out")
    assert shards.tokens > 15_000_000
    assert 50e6 < peak < 1.2e9, peak
