"""Batches: every token once an epoch, full rows, nothing lost or changed by resuming, workers or world size."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.corpus.order import shuffled
from bertsmith.corpus.pack import pack
from bertsmith.corpus.pieces import Windows
from bertsmith.corpus.prepare import prepare
from bertsmith.corpus.shards import Shards, need
from bertsmith.data import BLOCK, Data, data
from bertsmith.loader import batches
from bertsmith.recipes.bert import bert_tiny
from bertsmith.tokenizer.train import train_wordpiece

KINDS = ["packed", "pairs"]
NAMES = [f"{a}{b}" for a in "bcdfglmnprst" for b in "aeiou"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """600 documents whose lengths are spread as natural ones (log-normal), in several shards."""
    home, rng = tmp_path_factory.mktemp("data"), random.Random(3)

    def sentence() -> str:
        return " ".join(rng.choices(NAMES, k=rng.randrange(4, 30))) + "."

    def document() -> str:
        lines = min(60, max(1, round(rng.lognormvariate(1.2, 1.0))))
        return "\n".join(" ".join(sentence() for _ in range(rng.randrange(1, 4))) for _ in range(lines))

    (home / "a.txt").write_text("\n\n".join(document() for _ in range(600)))
    train_wordpiece(home / "a.txt", 100, home / "tokenizer")
    prepare(home / "a.txt", home / "out", home / "tokenizer", 0, chunk=30_000)
    return str(home / "out")


def build(kind: str, path: str, length: int = 32, rows: int = 8, seed: int = 1) -> Data:
    return data(kind, path=path, length=length, rows=rows, seed=seed).build()


def corrupt(batch: dict[str, Any], rngs: list[np.random.Generator]) -> dict[str, Any]:
    """One number a row: what masking would draw."""
    return batch | {"drawn": torch.tensor([rng.random() for rng in rngs])}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    a, b = dict(a), dict(b)
    layouts = [x.pop("layout") for x in (a, b)]
    parts = [[x.segment_BT, x.position_BT, x.before_B] + ([] if x.type_BT is None else [x.type_BT]) for x in layouts]
    equal = all(torch.equal(x, y) for x, y in zip(*parts, strict=True)) and layouts[0].count == layouts[1].count
    tensors = [k for k in a if isinstance(a[k], torch.Tensor)]
    return equal and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in tensors) and a["state"] == b["state"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 99))
def test_an_order_holds_everything_once(n: int, seed: int) -> None:
    order = shuffled(np.arange(n), n, seed, "x")
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order[n // 2 :], shuffled(np.arange(n // 2, n), n, seed, "x"))


def test_an_order_is_random_enough() -> None:
    n = 10_000
    order = shuffled(np.arange(n), n, 7, "order", 0)
    other = shuffled(np.arange(n), n, 7, "order", 1)
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 0.03
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    assert abs(np.corrcoef(order, other)[0, 1]) < 0.03
    assert (order == other).sum() < 10
    with pytest.raises(IndexError, match="no place 5"):
        shuffled(np.array([5]), 5, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 64), max_size=200))
def test_packing_keeps_every_piece_and_fits(sizes: list[int]) -> None:
    rows = pack(sizes, 64)
    assert sorted(sum(rows, [])) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in row) <= 64 for row in rows)
    fill = sorted(sum(sizes[i] for i in row) for row in rows)
    assert len(fill) < 2 or fill[0] + fill[1] > 64  # no two rows could be one


def test_packing_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="65 tokens"):
        pack([65], 64)


@pytest.mark.parametrize("size", [1, 7, 30, 10_000])
def test_pieces_are_the_documents_cut(path: str, size: int) -> None:
    shards = Shards(path)
    windows = Windows(shards, size)
    pieces = windows.pieces(shuffled(np.arange(windows.count), windows.count, 0))
    found = [shards.shard(s).token_N[a : a + n].tolist() for s, a, n in zip(*pieces, strict=True)]
    wanted = []
    for document in map(shards.document, range(shards.documents)):
        wanted += [document[a : a + size].tolist() for a in range(0, len(document), size)]
    assert Counter(map(tuple, found)) == Counter(map(tuple, wanted))


def test_an_epoch_of_packed_rows_holds_every_token_once(path: str) -> None:
    source = build("packed", path, rows=1)
    shards, seen, batch = source.shards, Counter(), None
    while source.state()["epoch"] == 0:
        batch = source.make(source.plan())
        if source.state()["epoch"] == 0:
            seen.update(batch["token"][batch["layout"].real_BT].tolist())
    assert batch is not None
    wanted = Counter(np.concatenate([shards.document(i) for i in range(shards.documents)]).tolist())
    special = shards.special
    assert seen[special["cls"]] == seen[special["sep"]]
    del seen[special["cls"]], seen[special["sep"]]
    assert seen == wanted


@pytest.mark.parametrize("length", [64, 128, 512])
def test_packed_rows_are_full(path: str, length: int) -> None:
    """98 % and more of natural lengths, over whole epochs (the last rows of a block included)."""
    source = build("packed", path, length=length, rows=4)
    real = places = 0
    while source.state()["epoch"] < 2:
        layout = source.make(source.plan())["layout"]
        real, places = real + int(layout.real_BT.sum()), places + layout.real_BT.numel()
    assert real / places >= 0.98


def test_documents_of_a_packed_row_begin_and_end_as_they_should(path: str) -> None:
    source = build("packed", path, length=64)
    batch = source.make(source.plan())
    layout, token_BT, special = batch["layout"], batch["token"], source.shards.special
    assert layout.count == int(layout.segment_BT.amax(1).sum()) > 8
    for b in range(8):
        assert set(layout.segment_BT[b].tolist()) - {0} == set(range(1, int(layout.segment_BT[b].max()) + 1))
        for number in range(1, int(layout.segment_BT[b].max()) + 1):
            own = layout.segment_BT[b] == number
            assert layout.position_BT[b][own].tolist() == list(range(int(own.sum())))
            ids = token_BT[b][own].tolist()
            assert ids[0] == special["cls"] and ids[-1] == special["sep"] and special["pad"] not in ids
    assert bool((token_BT[~layout.real_BT] == special["pad"]).all())


def test_pairs_follow_or_come_from_another_document(path: str) -> None:
    source = build("pairs", path, length=48, rows=64)
    shards, special = source.shards, source.shards.special
    whole = [" ".join(map(str, shards.document(i).tolist())) for i in range(shards.documents)]
    held = ["", *(f" {text} " for text in whole)]
    random_second = total = 0
    for _ in range(6):
        batch = source.make(source.plan())
        for b in range(64):
            ids = batch["token"][b][batch["layout"].real_BT[b]].tolist()
            types = batch["layout"].type_BT[b][: len(ids)].tolist()
            first, second = ids[: types.index(1)], ids[types.index(1) :]
            assert types == sorted(types) and ids.count(special["sep"]) == 2
            assert first[0] == special["cls"] and first[-1] == second[-1] == special["sep"]
            text = f" {' '.join(map(str, first[1:-1] + second[:-1]))} "
            if batch["next"][b] == 0:
                assert any(text in document for document in held)
            elif min(len(first), len(second)) > 10:
                assert not any(text in document for document in held)
            random_second, total = random_second + int(batch["next"][b]), total + 1
    assert abs(random_second / total - 0.5) < 0.1


def test_pairs_split_at_ends_of_sentences(path: str) -> None:
    source = build("pairs", path, length=128, rows=64)
    dot = int(source.ends[0])
    batch = source.make(source.plan())
    last = [
        int(batch["token"][b][(batch["layout"].type_BT[b] == 0) & batch["layout"].real_BT[b]][-2]) for b in range(64)
    ]
    assert sum(token == dot for token in last) > 50


def test_pairs_need_two_documents(path: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ba be bi")
    prepare(tmp_path / "a.txt", tmp_path / "out", Path(path), 0)
    with pytest.raises(ValueError, match="holds one document"):
        build("pairs", str(tmp_path / "out"))


def test_rows_without_any_are_an_error_not_an_endless_search(path: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(".\n\n.\n\n.")
    prepare(tmp_path / "a.txt", tmp_path / "out", Path(path), 0)
    with pytest.raises(ValueError, match="documents are too short"):
        build("pairs", str(tmp_path / "out")).plan()
    with pytest.raises(ValueError, match="a row needs more than 2 tokens"):
        build("packed", path, length=2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_resuming_after_any_batch_gives_the_next_ones(path: str, kind: str, workers: int) -> None:
    rows = 300  # a batch is a large part of an epoch: states stand in the middle of blocks and behind epochs
    stream = batches(build(kind, path, rows=rows), corrupt, 5)
    whole = list(islice(stream, 14))
    assert whole[-1]["state"]["epoch"] >= 1
    for k in (0, 5, 9) if workers == 0 else (6,):
        source = build(kind, path, rows=rows)
        source.load(json.loads(json.dumps(whole[k]["state"])))
        again = list(islice(batches(source, corrupt, 5, workers), 14 - k - 1))
        assert all(same(a, b) for a, b in zip(whole[k + 1 :], again, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_world_size_sees_the_same_rows(path: str, workers: int) -> None:
    alone = list(islice(batches(build("packed", path), corrupt, 5), 12))
    for world in (2, 3):
        ranks = [
            islice(batches(build("packed", path), corrupt, 5, workers, rank, world), 12 // world)
            for rank in range(world)
        ]
        rounds = list(zip(*ranks, strict=True))
        for number, micro in enumerate(rounds):
            for rank, batch in enumerate(micro):
                wanted = alone[number * world + rank]
                assert same(batch, wanted | {"state": alone[(number + 1) * world - 1]["state"]})
        assert [int(row) for micro in rounds for batch in micro for row in batch["row"]] == list(range(12 * 8))


def test_what_is_drawn_depends_on_the_row_alone(path: str) -> None:
    small = torch.cat([b["drawn"] for b in islice(batches(build("packed", path, rows=4), corrupt, 5), 8)])
    large = torch.cat([b["drawn"] for b in islice(batches(build("packed", path, rows=16), corrupt, 5), 2)])
    other = torch.cat([b["drawn"] for b in islice(batches(build("packed", path, rows=16), corrupt, 6), 2)])
    assert torch.equal(small, large) and not torch.equal(large, other)
    assert len(set(small.tolist())) == 32


def test_seeds_and_epochs_have_orders_of_their_own(path: str) -> None:
    first = build("packed", path, seed=1)
    second = build("packed", path, seed=2)
    assert not torch.equal(first.make(first.plan())["token"], second.make(second.plan())["token"])
    later = build("packed", path, seed=1)
    later.load({"epoch": 1, "block": 0, "row_in_block": 0, "row": 0})
    first.load(later.state() | {"epoch": 0})
    assert not torch.equal(first.make(first.plan())["token"], later.make(later.plan())["token"])


def test_the_given_data_is_left_as_it_is_and_mistakes_are_named(path: str) -> None:
    source = build("packed", path)
    before = source.state()
    next(batches(source, None, 0))
    assert source.state() == before
    with pytest.raises(ValueError, match="rank 2 of world 2"):
        batches(source, None, 0, rank=2, world=2)
    with pytest.raises(ValueError, match="not a state of data"):
        source.load({"epoch": 1})


ENDLESS = """
import sys, time
from bertsmith.data import data
from bertsmith.loader import batches
stream = batches(data("packed", path=sys.argv[1], length=32, rows=8).build(), None, 0, workers=2)
next(stream)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_workers_end_with_their_parent(path: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, path], stdout=subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(workers) == 2
    start = time.monotonic()
    assert not psutil.wait_procs(workers, timeout=4)[1]
    assert time.monotonic() - start < 4
    process.stdout.close()


def test_workers_end_when_the_stream_is_dropped(path: str) -> None:
    stream = batches(build("packed", path), None, 0, workers=2)
    next(stream)
    workers = [p for p in psutil.Process().children(recursive=True) if p.is_running()]
    assert len(workers) >= 2
    del stream
    assert not psutil.wait_procs(workers, timeout=4)[1]


def test_memory_does_not_grow_with_the_corpus(path: str) -> None:
    """What a plan holds is one block, whatever the corpus: here shards with many times the windows of a block."""
    source = build("packed", path)
    shard, count, times = source.shards.shard, len(source.shards.tokens_of_S), 40
    source.windows.first_S = np.concatenate([[0], np.cumsum(np.tile(np.diff(source.windows.first_S), times))])
    source.windows.count = int(source.windows.first_S[-1])
    source.shards.shard = lambda number: shard(number % count)
    assert source.windows.count > 5 * BLOCK
    tracemalloc.start()
    while source.state()["block"] < 3:
        source.plan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_a_corpus_whose_tokenizer_lacks_a_special_token_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="has no cls and no mask token, only pad, unk"):
        need({"pad": 0, "unk": 1}, "pad", "cls", "mask")
    (tmp_path / "manifest.json").write_text(json.dumps({"vocabulary": 9, "special": {"pad": 0, "cls": 1, "sep": 2}}))
    with pytest.raises(ValueError, match="has no mask token"):
        bert_tiny(tmp_path)
