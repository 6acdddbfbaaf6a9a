"""The harness: sets out of toy archives in their real formats, cells that are done once, the table, the transfer matrix."""

import gc
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sklearn.feature_extraction.text  # here, with the next one but one, before tests are timed
import sklearn.linear_model  # noqa: F401
import torch
import torch._dynamo  # noqa: F401  # what the first optimiser imports
from golden.make import tokenizer as toy_tokenizer
from sklearn.metrics import matthews_corrcoef

from bertsmith import cli, kernels, sets, suite, suite_cell, transfer
from bertsmith.hf.bert import bert_encoder
from bertsmith.interval import t_interval
from bertsmith.labelled.spans import Relation
from bertsmith.model import Bundle, Model
from bertsmith.peak import Peak
from bertsmith.sets.shelf import Shelf
from bertsmith.suite import run_suite, summary
from bertsmith.suite_cell import Cell, Protocol, protocol_of
from bertsmith.suite_table import markdown
from bertsmith.task import task
from bertsmith.task.extractive_qa import Answer

VOCAB = 60
QUICK = Protocol("quick", epochs=2, batch=16)


@pytest.fixture(scope="module", autouse=True)
def collected():
    """A cell collects garbage before it begins; what pytest and torch have imported need not be looked through each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def pack(folder, name, files):
    """NAME.tar.xz with a folder NAME, as the archives are; values are texts or bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{name}.tar.xz", "w:xz", preset=0) as tar:
        for member, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(f"{name}/{member}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def texts(count, seed, mark="w30"):
    """(text, whether the mark stands in it): every second has it; no text twice."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        words = [f"w{n}" for n in rng.integers(5, 25, 5)]
        if i % 2:
            words.insert(int(rng.integers(0, 6)), mark)
        found.append((" ".join(words), i % 2))
    return found


def tsv(rows, header=""):
    return "".join(f"{line}\n" for line in ([header] if header else []) + ["\t".join(map(str, row)) for row in rows])


def columns(count, seed, label):
    """Two columns; w30 is a name."""
    lines = []
    for text, _ in texts(count, seed):
        lines += [f"{word}\t{f'B-{label}' if word == 'w30' else 'O'}" for word in text.split()] + [""]
    return "\n".join(lines) + "\n"


def conllu(count, seed):
    blocks = []
    for text, _ in texts(count, seed):
        words = text.split()
        rows = [
            [i, w, w, "PROPN" if w == "w30" else "NOUN", "_", "_", i - 1, "root" if i == 1 else "dep", "_", "_"]
            for i, w in enumerate(words, 1)
        ]
        blocks.append(f"# text = {text}\n" + tsv(rows))
    return "\n".join(blocks) + "\n"


def spert(count, seed):
    found = []
    for text, _ in texts(count, seed):
        words = [*text.split(), "w31"]
        tags = ["U-Peop" if w == "w30" else "U-Loc" if w == "w31" else "O" for w in words]
        related = [{"head": 0, "tail": 1, "type": "Live_In"}] if "w30" in words else []
        found.append({"tokens": words, "tags": tags, "relations": related})
    return json.dumps(found)


def articles(none):
    data = []
    for n in range(24):
        asked = [{"id": f"{n}a", "question": "w5 w6", "answers": [{"text": "w31", "answer_start": 4}]}]
        if none:
            asked.append({"id": f"{n}b", "question": "w7", "answers": [], "is_impossible": True})
        data.append({"title": f"title {n}", "paragraphs": [{"context": f"w30 w31 w{n}", "qas": asked}]})
    return json.dumps({"version": "2.0", "data": data})


def entailment(count, seed, names):
    """(premise, hypothesis, label): it is entailed if it has the mark."""
    return [(f"w{i % 20} w{i % 7}", text, names[has]) for i, (text, has) in enumerate(texts(count, seed))]


def intents(count, seed, names):
    return [[f"{text} w{40 + i % len(names)}", names[i % len(names)]] for i, (text, _) in enumerate(texts(count, seed))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a toy archive of each set."""
    home = tmp_path_factory.mktemp("data")
    tasks = home / "tasks"
    glue = "sentence\tlabel"
    pack(
        tasks,
        "glue_sst2",
        {
            "train_full.tsv": tsv([(f"{t} ", y) for t, y in texts(80, 0)], glue),
            "dev.tsv": tsv(texts(20, 1), glue),
            "test-labeled.tsv": tsv(texts(30, 2), glue),
        },
    )
    linguists = {
        name: tsv([("gj04", y, "" if y else "*", t) for t, y in texts(count, seed)])
        for name, count, seed in (("in_domain_train", 40, 0), ("in_domain_dev", 12, 1), ("out_of_domain_dev", 8, 2))
    }
    pack(tasks, "cola", {f"raw/{name}.tsv": text for name, text in linguists.items()})
    msr = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    for name, archive in (("train", 40), ("test", 10)):
        linguists[name] = tsv([(y, 1, 2, t, f'"{t} w9') for t, y in texts(archive, archive)], msr)
    pack(tasks, "glue_mrpc", {f"msr_paraphrase_{name}.txt": linguists[name] for name in ("train", "test")})
    two, three = ("not_entailment", "entailment"), ("neutral", "entailment")
    numbered = {
        name: tsv(
            [(i, *row) for i, row in enumerate(entailment(count, seed, two))], "index\tsentence1\tsentence2\tlabel"
        )
        for name, count, seed in (("train", 60, 3), ("dev", 21, 4))
    }
    pack(tasks, "glue_rte", {f"{name}.tsv": text for name, text in numbered.items()})
    pack(
        tasks,
        "conjnli",
        {
            "adversarial_train_15k.tsv": tsv(entailment(60, 5, three), "\ufeffPremise\tHypothesis\tLabel"),
            "conj_dev.tsv": tsv(entailment(15, 6, ("contradiction", "entailment")), "\ufeffPremise\tHypothesis\tLabel"),
        },
    )
    captions = {
        name: tsv(
            [(i, a, b, 3.5, y.upper()) for i, (a, b, y) in enumerate(entailment(count, seed, three))],
            "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment",
        )
        for name, count, seed in (("SICK_train", 60, 7), ("SICK_trial", 20, 8), ("SICK_test_annotated", 20, 9))
    }
    pack(tasks, "sts12_16_sick", {f"sick2014/{name}.txt": text for name, text in captions.items()})
    sts = {name: f'"w5, w6",w7 w8,{n}.2\nw30 w9,w30,5.0\n' * n for name, n in (("train", 3), ("dev", 2), ("test", 1))}
    pack(tasks, "stsb_multi", {f"stsb-en-{name}.csv": text for name, text in sts.items()})
    questions = [f"{'DESC:manner' if y else 'NUM:dist'} {t} ?" for t, y in texts(40, 10)]
    # the official files are in Latin-1
    pack(
        tasks,
        "sentence_sets",
        {"raw/TREC.train": ("\n".join(questions) + " \xf1\n").encode("latin-1"), "raw/TREC.test": questions[0] + "\n"},
    )
    named = ["translate", "alarm", "weather"]
    held = {
        f"{oos}{name}": intents(count, seed, ["oos"] if oos else named)
        for oos in ("", "oos_")
        for name, count, seed in (("train", 30, 1), ("val", 6, 2), ("test", 9, 3))
    }
    pack(tasks, "clinc150", {"data_full.json": json.dumps(held)})
    bank = {
        name: "text,category\n" + "".join(f'"{t}, please",{y}\n' for t, y in intents(n, n, named))
        for name, n in (("train", 60), ("test", 9))
    }
    pack(tasks, "banking77", {f"{name}.csv": text for name, text in bank.items()})
    for name, files, label in (
        ("wnut17", ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"), "person"),
        ("bc5cdr", ("train.tsv", "devel.tsv", "test.tsv"), "Chemical"),
        ("ncbi_disease", ("train.tsv", "devel.tsv", "test.tsv"), "Disease"),
    ):
        sizes = zip(files, (80, 20, 30), strict=True)
        pack(tasks, name, {file: columns(count, count, label) for file, count in sizes})
    pack(tasks, "conll04", {f"conll04_{x}.json": spert(n, n) for x, n in (("train", 12), ("dev", 6), ("test", 8))})
    pack(tasks, "squad", {f"dev-v{v}.from-html.json": articles(v == "2.0") for v in ("1.1", "2.0")})
    abstracts = io.BytesIO()
    with zipfile.ZipFile(abstracts, "w") as archive:
        for n, (text, _) in enumerate(texts(40, 11)):
            archive.writestr(f"Inspec/docsutf8/{n}.txt", text)
            archive.writestr(f"Inspec/keys/{n}.key", f"{text.split()[0].upper()}\nw50 w51\n")
    pack(tasks, "keyphrases", {"Inspec.zip": abstracts.getvalue()})
    emotions = {
        "labels.txt": "joy\nfear\nneutral",
        **{f"{x}.tsv": tsv([(t, "0,1" if y else "2", "id") for t, y in texts(8, 3)]) for x in ("train", "dev", "test")},
    }
    pack(tasks, "goemotions", {f"original/{name}": text for name, text in emotions.items()})
    pack(
        tasks,
        "ud_english_ewt",
        {
            "en_ewt-ud-train.from-sources.conllu.gz": gzip.compress(conllu(8, 1).encode()),
            "en_ewt-ud-dev.conllu": conllu(4, 2),
            "en_ewt-ud-test.conllu": conllu(4, 3),
        },
    )
    return home


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A directory with a tiny encoder."""
    torch.manual_seed(0)
    spec = bert_encoder(1, 32, 2, VOCAB, length=64, dropout=0.0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Model(spec, Bundle(spec.build(), None), toy_tokenizer(VOCAB), max_length=64).save(folder)
    return folder


COUNTS = {  # train, valid, test of the toy archives, and of the real ones
    "banking77": ((54, 6, 9), (9004, 999, 3080)),
    "bc5cdr": ((80, 20, 30), (4560, 4581, 4797)),
    "clinc150": ((60, 12, 18), (15100, 3100, 5500)),
    "cola": ((36, 4, 20), (7697, 854, 1043)),
    "conjnli": ((54, 6, 15), (13501, 1499, 623)),
    "conll04": ((12, 6, 8), (922, 231, 288)),
    "goemotions": ((8, 8, 8), (43410, 5426, 5427)),
    "inspec": ((27, 3, 10), (1350, 150, 500)),
    "mrpc": ((36, 4, 10), (3669, 407, 1725)),
    "ncbi_disease": ((80, 20, 30), (5424, 923, 940)),
    "rte": ((54, 6, 21), (2242, 248, 277)),
    "sick": ((60, 20, 20), (4500, 500, 4927)),
    "squad": ((17, 1, 6), (7147, 728, 2695)),
    "squad2": ((34, 2, 12), (8531, 646, 2696)),
    "sst2": ((80, 20, 30), (67349, 872, 1821)),
    "stsb": ((6, 4, 2), (5749, 1500, 1379)),
    "trec": ((36, 4, 1), (4908, 544, 500)),
    "ud_tags": ((8, 4, 4), (12544, 2001, 2077)),
    "ud_trees": ((8, 4, 4), (12544, 2001, 2077)),
    "wnut17": ((80, 20, 30), (3394, 1009, 1287)),
}


def sizes(one):
    return len(one.train), len(one.valid), len(one.test)


@pytest.mark.parametrize("name", sets.names())
def test_a_set_is_read_and_its_labels_are_what_its_task_takes(name, data, model):
    one = sets.read(name, data)
    assert one.name == name and sizes(one) == COUNTS[name][0]
    assert one.made and one.citation and one.licence and not any(str(data.parent) in line for line in one.said)
    labels, spec = suite.label_space(suite.Splits(one.train, one.test, one.test, ""), one.task, lambda _: None)
    aim = spec.build(labels)
    rows = aim.rows(suite.load(model).coder(64), one.train.text, one.train.pair, one.train.label)
    assert {row.example for row in rows} == set(range(len(one.train))) and all(row.target for row in rows)
    found = set(aim.metrics().metrics)
    if one.also is not None:  # the true answers are right in every way
        truths = one.test.label
        if one.kind == "answers":
            truths = [Answer(x[0][0] if x else "", 0, 0) for x in truths]
        more = one.also(truths)
        assert all(value == 1.0 for value in more.values())
        found |= set(more)
    assert one.metric in found
    assert name in {n for names in suite.SUITES.values() for n in names} | {"squad2", "conjnli", "sick"}


def test_what_the_sets_hold(data):
    def first(name):
        one = sets.read(name, data)
        return one.train.text[0], one.train.pair and one.train.pair[0], one.train.label[0]

    plain = texts(1, 0)[0][0]
    assert first("sst2") == (plain, None, "0") and first("cola")[2] in ("0", "1")
    a, b, label = first("mrpc")
    assert b == f'"{a} w9' and label in "01"  # quotes in GLUE's tables are letters
    assert first("rte")[2] in ("entailment", "not_entailment") and first("sick")[2] == "neutral"
    assert first("stsb") == ("w5, w6", "w7 w8", 3.2)
    assert set(sets.read("trec", data).train.label) == {"DESC", "NUM"} and first("trec")[0].endswith("?")
    assert sets.read("trec", data).train.text[-1].endswith("\xf1")
    assert set(sets.read("clinc150", data).test.label) == {"translate", "alarm", "weather", "oos"}
    assert first("banking77")[0].endswith(", please")
    assert first("goemotions")[2] == ["neutral"] and sets.read("goemotions", data).train.label[1] == ["joy", "fear"]
    one = sets.read("wnut17", data)
    (span,) = one.train.label[1]
    assert one.train.text[1][span.start : span.end] == "w30" and span.label == "person" and len(one.train.pair[1]) == 6
    spans, relations = sets.read("conll04", data).train.label[1]
    assert [s.label for s in spans] == ["Peop", "Loc"] and relations == [Relation(0, 1, "Live_In")]
    assert first("squad") == ("w5 w6", "w30 w31 w0", [("w31", 4)])
    assert sets.read("squad2", data).train.label[1] == []
    assert first("ud_tags")[2][0].label == "NOUN" and first("ud_trees")[2][:2] == [(0, "root"), (1, "dep")]
    inspec = sets.read("inspec", data)
    assert "do not stand in their text" in inspec.said[0] and inspec.metric == "present_f1"


def test_splits_that_are_cut_share_no_text_or_article(data):
    for name in ("cola", "mrpc", "rte", "conjnli", "banking77", "trec", "inspec"):
        one = sets.read(name, data)
        keys = [set(x.keys()) for x in (one.train, one.valid)]
        assert not keys[0] & keys[1] and "by a hash" in one.made, name
    squad = sets.read("squad2", data)
    contexts = [set(x.pair) for x in (squad.train, squad.valid, squad.test)]
    assert not contexts[0] & contexts[2] and len(contexts[0] | contexts[1] | contexts[2]) == 24
    banking = sets.read("banking77", data)
    assert sorted(banking.valid.label) == ["alarm"] * 2 + ["translate"] * 2 + ["weather"] * 2  # stratified


def test_a_limit_is_a_function_of_texts_and_seed(data):
    whole = sets.read("sst2", data)
    one = whole.limited(24, seed=3)
    assert sizes(one) == (24, 20, 30) and one.train.label == sets.some(whole.train, 24, 3).label
    assert whole.limited(None) is whole and "24 of 80 train by a hash" in one.made and "valid" not in one.made
    assert sizes(whole.limited(8)) == (8, 8, 30)
    assert set(sets.some(whole.train, 12, 3).text) < set(one.train.text)  # less is a part of more
    assert set(sets.some(whole.train, 24, 4).text) != set(one.train.text)
    back = whole.train.take(list(range(len(whole.train)))[::-1])
    assert set(sets.some(back, 24, 3).text) == set(one.train.text)  # the order of the file says nothing
    assert whole.digest() == sets.read("sst2", data).digest() != one.digest()


def test_scores_beyond_the_task_are_their_formulas(data):
    clinc = sets.read("clinc150", data)
    answers = ["alarm"] * len(clinc.test)
    found = clinc.also(answers)
    inside = [y for y in clinc.test.label if y != "oos"]
    assert found == {"in_scope_accuracy": inside.count("alarm") / len(inside), "oos_recall": 0.0}
    cola = sets.read("cola", data)
    answers = [str(i % 3 % 2) for i in range(20)]
    found = cola.also(answers)
    assert found["in_domain_matthews"] == pytest.approx(matthews_corrcoef(cola.test.label[:12], answers[:12]))
    assert found["out_of_domain_matthews"] == pytest.approx(matthews_corrcoef(cola.test.label[12:], answers[12:]))
    inspec = sets.read("inspec", data)
    assert inspec.also([[] for _ in inspec.test.label]) == {"present_f1": 0.0}
    said = [one[:1] if i < 4 else [] for i, one in enumerate(inspec.test.label)]
    true = [
        len({text[x.start : x.end] for x in one}) for text, one in zip(inspec.test.text, inspec.test.label, strict=True)
    ]
    assert set(true) == {1}  # the phrase, wherever it stands
    p = r = 4 / 10  # means over texts, 0 where nothing is said
    assert inspec.also(said)["present_f1"] == pytest.approx(2 * p * r / (p + r))
    squad = sets.read("squad2", data)
    nothing = squad.also([Answer("", 0, 0)] * len(squad.test))
    assert nothing == {"answerable_squad_f1": 0.0, "unanswerable_squad_f1": 1.0}


def test_a_shelf_reads_what_is_asked_and_refuses_the_rest(tmp_path):
    pack(tmp_path, "toys", {"a.txt": "one", "b/c.txt": "two", "d.txt": "three"})
    cache = tmp_path / "cache"
    with Shelf(tmp_path, cache) as shelf:
        a, c = shelf.files("toys", ["a.txt", "b/c.txt"])
        assert (a.read_text(), c.read_text()) == ("one", "two") and not list(cache.rglob("d.txt"))
        with pytest.raises(ValueError, match="has no toys/x.txt; it has: toys/a.txt, toys/b/c.txt, toys/d.txt"):
            shelf.files("toys", ["x.txt"])
        with pytest.raises(FileNotFoundError, match="no archive ball.tar.xz"):
            shelf.files("ball", ["a.txt"])
        for odd in ("../a.txt", "/a.txt"):
            with pytest.raises(ValueError, match="no file below the folder"):
                shelf.files("toys", [odd])
        before = a.stat().st_mtime_ns
        assert shelf.files("toys", ["a.txt"]) == [a] and a.stat().st_mtime_ns == before  # unpacked once
        pack(tmp_path, "toys", {"a.txt": "new"})
        assert shelf.files("toys", ["a.txt"])[0].read_text() == "new"
    with Shelf(tmp_path) as shelf:
        (a,) = shelf.files("toys", ["a.txt"])
        assert a.is_file()
    assert not a.exists()  # without a cache nothing stays
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with tarfile.open(tmp_path / "links.tar.xz", "w:xz") as tar:
            info = tarfile.TarInfo("links/a.txt")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        with Shelf(tmp_path) as shelf, pytest.raises(ValueError, match="is a link or no plain file"):
            shelf.files("links", ["a.txt"])
    whole = (tmp_path / "toys.tar.xz").read_bytes()
    for content in (whole[: len(whole) // 2], lzma.compress(b"no tar"), b"no xz"):
        (tmp_path / "toys.tar.xz").write_bytes(content)
        with Shelf(tmp_path) as shelf, pytest.raises(ValueError, match="cannot be unpacked|has no toys/a.txt"):
            shelf.files("toys", ["a.txt"])


def test_where_the_data_are(data, monkeypatch, tmp_path):
    monkeypatch.delenv("BERTSMITH_DATA", raising=False)
    with pytest.raises(ValueError, match="say where the data are"):
        sets.find()
    monkeypatch.setenv("BERTSMITH_DATA", str(data))
    assert sets.find() == sets.find(data / "tasks") == data / "tasks"
    with pytest.raises(FileNotFoundError, match="no folder"):
        sets.find(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no set 'sst3'; there are: banking77"):
        sets.read("sst3", data)


def go(model, data, out, **settings):
    given = {"chosen": ["sst2", "wnut17"], "protocols": [QUICK], "limit": 64, "seeds": 2, "progress": False}
    return run_suite(model, out, data, **(given | settings), say=lambda _: None)


@pytest.fixture(scope="module")
def begun(model, data, tmp_path_factory):
    """One set, two seeds, 64 examples."""
    out = tmp_path_factory.mktemp("suite")
    return out, go(model, data, out, chosen=["sst2"])


@pytest.fixture(scope="module")
def finished(begun, model, data):
    """Another call adds a second set."""
    return begun[0], go(model, data, begun[0])


def test_a_first_call_alone(begun):
    out, found = begun
    assert (
        list(found["sets"]) == list(found["rows"][0]["sets"]) == ["sst2"] and len(list((out / "cells").iterdir())) == 2
    )


def test_a_suite_end_to_end(finished, model, data, monkeypatch):
    out, found = finished
    assert found["failed"] == [] and list(found["sets"]) == ["sst2", "wnut17"]
    (row,) = found["rows"]
    assert (row["model"], row["method"], row["protocol"]) == ("tiny", "full", "quick") and row["missing"] == []
    cells = {name: json.loads((out / "cells" / name).read_text()) for name in os.listdir(out / "cells")}
    assert sorted(cells) == [f"tiny--{x}--full--quick--seed{n}.json" for x in ("sst2", "wnut17") for n in (0, 1)]
    scores = np.array([[cells[f"tiny--{x}--full--quick--seed{n}.json"]["score"] for n in (0, 1)] for x in row["sets"]])
    assert {k: row["sets"]["sst2"][k] for k in ("mean", "low", "high", "n")} == t_interval(list(scores[0]))
    assert row["aggregate"]["mean"] == pytest.approx(scores.mean()) and row["aggregate"]["n"] == 2
    about = found["sets"]["sst2"]
    assert about["counts"] == {"train": 64, "valid": 20, "test": 30} and about["citation"] and about["licence"]
    assert set(about["baselines"]) == {"majority", "tfidf"} and about["baselines"]["majority"]["accuracy"] == 0.5
    assert set(found["sets"]["wnut17"]["baselines"]) == {"majority", "word_tags"}
    one = cells["tiny--sst2--full--quick--seed0.json"]
    assert one["trials"] == [{"lr": 5e-5, "valid": one["epochs"][one["chosen_epoch"] - 1]["accuracy"]}]
    assert one["trained"] == one["parameters"] and one["bytes"] > 4 * one["parameters"] and one["seconds"] > 0
    assert json.loads((out / "suite.json").read_text()) == {k: found[k] for k in ("sets", "rows")}
    assert list((out / "runs").iterdir()) == []
    said = markdown(found)
    assert said.splitlines()[0] == "| set | score | majority | TF-IDF, or words' tags | tiny, full, quick |"
    assert (
        f"| sst2 | accuracy | 0.500 | {about['baselines']['tfidf']['accuracy']:.3f} | {scores[0].mean():.3f} [" in said
    )
    # nothing is done twice, not even read
    monkeypatch.setattr(suite_cell, "finetune", None)
    monkeypatch.setattr(sets, "read", None)
    assert go(model, data, out) == found


def test_what_can_be_learnt_is_learnt(model, data, tmp_path):
    long = Protocol("long", epochs=5, batch=8, factors=(200.0,))
    found = go(model, data, tmp_path, chosen=["sst2"], protocols=[long], seeds=1, baselines=False)
    entry = found["rows"][0]["sets"]["sst2"]
    assert entry["mean"] > 0.9 and entry["degenerate"] == {}
    held = json.loads((tmp_path / "cells" / "tiny--sst2--full--long--seed0.json").read_text())
    assert held["lr"] == pytest.approx(1e-2) and len(held["epochs"]) == 5


def test_a_cell_that_is_gone_is_done_again_to_the_same_numbers(finished, model, data, tmp_path):
    out, found = finished
    again = go(model, data, tmp_path, chosen=["wnut17"], seeds=1)
    old = json.loads((out / "cells" / "tiny--wnut17--full--quick--seed0.json").read_text())
    new = json.loads((tmp_path / "cells" / "tiny--wnut17--full--quick--seed0.json").read_text())
    volatile = {"seconds", "memory", "memory_before", "device_memory"}
    assert {k: v for k, v in old.items() if k not in volatile} == {k: v for k, v in new.items() if k not in volatile}
    assert again["rows"][0]["sets"]["wnut17"]["seeds"] == {"0": old["score"]}
    assert again["sets"]["wnut17"] == found["sets"]["wnut17"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", ["in the second epoch", "before the cell is written"])
def test_a_killed_cell_goes_on(finished, model, data, tmp_path, monkeypatch, when):
    from bertsmith import tuning

    train, calls = tuning.train, []

    def counted(*args, **kwargs):
        calls.append(args[1].name)
        if when == "in the second epoch" and len(calls) == 2:
            raise Killed
        return train(*args, **kwargs)

    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train", counted)
        if when == "before the cell is written":
            patch.setattr(suite, "beyond", killed)
        with pytest.raises(Killed):
            go(model, data, tmp_path, chosen=["sst2"], seeds=1)
    assert not list((tmp_path / "cells").iterdir()) and list((tmp_path / "runs").iterdir())
    calls.clear()
    if when == "before the cell is written":
        monkeypatch.setattr(suite_cell, "finetune", killed)  # what was tuned is not tuned again
    found = go(model, data, tmp_path, chosen=["sst2"], seeds=1)
    held = json.loads((tmp_path / "cells" / "tiny--sst2--full--quick--seed0.json").read_text())
    old = finished[1]["rows"][0]["sets"]["sst2"]["seeds"]["0"]
    assert found["rows"][0]["sets"]["sst2"]["seeds"]["0"] == held["score"] == old
    assert held["seconds"] is None and not list((tmp_path / "runs").iterdir())


def test_cells_of_other_settings_are_not_taken_for_these(finished, model, data, tmp_path):
    out, _ = finished
    with pytest.raises(ValueError, match="made with another limit \\(limit 64, not 32\\)"):
        go(model, data, out, limit=32)
    with pytest.raises(ValueError, match="made with another protocol"):
        go(model, data, out, protocols=[Protocol("quick", epochs=1, batch=16)])
    torch.manual_seed(1)
    spec = bert_encoder(1, 32, 2, VOCAB, length=64, dropout=0.0)
    Model(spec, Bundle(spec.build(), None), toy_tokenizer(VOCAB), max_length=64).save(tmp_path / "tiny")
    with pytest.raises(ValueError, match="made with another weights .* another name for the model"):
        go(tmp_path / "tiny", data, out)
    with pytest.raises(ValueError, match="about other examples of sst2"):
        go(model, data, out, limit=32, methods=["bitfit"], chosen=["sst2"])


def test_what_is_not_known_is_said_at_once(model, data, tmp_path):
    for settings, says in (
        ({"chosen": ["sst2", "sst3"]}, "no set 'sst3'; there are: banking77"),
        ({"chosen": None, "suite": "french"}, "no suite 'french'; there are: english"),
        ({"protocols": ["slow"]}, "no protocol 'slow'; there are: fixed, sweep"),
        ({"protocols": ["fixed:epoch=2"]}, "'epoch=2' is no setting; say epochs="),
        ({"protocols": ["fixed:batch=some"]}, "'batch=some' is no setting"),
        ({"protocols": ["fixed:batch=0"]}, "batch must be above 0"),
        ({"methods": ["lora:rang=3"]}, "lora has no setting"),
        ({"seeds": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=says):
            go(model, data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_methods_and_protocols_on_a_command_line():
    made = protocol_of("small:epochs=20,whole=0.5")
    assert made == Protocol("small:epochs=20,whole=0.5", epochs=20, batch=16, whole=0.5)
    assert suite.split_named("full,lora:rank=4,alpha=8,bitfit") == ["full", "lora:rank=4,alpha=8", "bitfit"]


def test_absent_archives_are_left_out_unless_they_are_named(finished, model, data, tmp_path):
    (tmp_path / "tasks").mkdir()
    os.link(data / "tasks" / "glue_sst2.tar.xz", tmp_path / "tasks" / "glue_sst2.tar.xz")
    with pytest.raises(FileNotFoundError, match="no archive wnut17.tar.xz"):
        run_suite(model, tmp_path / "a", tmp_path, ["wnut17"], progress=False, say=lambda _: None)
    said = []
    one = Protocol("one", epochs=1)
    found = run_suite(
        model, tmp_path / "b", tmp_path, protocols=[one], limit=8, seeds=1, progress=False, say=said.append
    )
    assert list(found["sets"]) == ["sst2"] and "trec is left out: no archive sentence_sets.tar.xz" in "\n".join(said)
    (tmp_path / "tasks" / "glue_sst2.tar.xz").unlink()
    with pytest.raises(FileNotFoundError, match="none of the sets"):
        run_suite(model, tmp_path / "c", tmp_path, progress=False, say=lambda _: None)


def test_a_small_method_says_what_it_costs(model, data, tmp_path):
    found = go(model, data, tmp_path, chosen=["sst2"], methods=["lora:rank=2"], protocols=[Protocol("one", 1)], seeds=1)
    (row,) = found["rows"]
    cost = row["sets"]["sst2"]
    lora, head = 2 * (2 * 32 + 2 * 32), 2 * 32 + 2  # queries and values; the classifier
    assert cost["trained"] == lora + head and cost["parameters"] > 5 * cost["trained"]
    assert 4 * cost["trained"] < cost["bytes"] < 4 * cost["trained"] + 10_000  # an adapter's two files
    assert (tmp_path / "cells" / "tiny--sst2--lora_rank=2--one--seed0.json").is_file() and row[
        "method"
    ] == "lora:rank=2"


def test_a_sweep_chooses_by_the_valid_split_alone(model, data, tmp_path, monkeypatch):
    valid = {1.0: 0.6, 1 / 3: 0.8, 3.0: 0.8}  # of equals the first
    test = {1.0: 0.9, 1 / 3: 0.5, 3.0: 0.99}

    whole = sets.read("sst2", data).limited(64)
    given = [x.text for x in (whole.train, whole.valid, whole.test)]

    def tuned(base, train, **settings):
        assert [x.text for x in (train, settings["valid"], settings["test"])] == given
        factor = min(valid, key=lambda f: abs(settings["lr"] / 5e-5 - f))
        spec = task("single_label")
        found = Model(base.spec, base.bundle, base.tokenizer, None, spec, ["0", "1"])
        look = {"accuracy": valid[factor]}
        result = {"epochs": [look], "chosen_epoch": 1, "test": {"accuracy": test[factor]}, "degenerate": None}
        found.report = {"metric": "accuracy", "seeds": [result], "said": []}
        found.save(settings["out"])
        return found

    monkeypatch.setattr(suite_cell, "finetune", tuned)
    found = go(model, data, tmp_path, chosen=["sst2"], protocols=["sweep"], seeds=1)
    held = json.loads((tmp_path / "cells" / "tiny--sst2--full--sweep--seed0.json").read_text())
    assert held["score"] == 0.5 and held["lr"] == pytest.approx(5e-5 / 3)
    assert [t["valid"] for t in held["trials"]] == [0.6, 0.8, 0.8] and all(
        set(t) == {"lr", "valid"} for t in held["trials"]
    )
    assert found["rows"][0]["sets"]["sst2"]["trials"] == 3


def test_numbers_that_go_bad_are_a_result_and_a_fault_is_not(model, data, tmp_path, monkeypatch):
    def bad(base, train, **settings):
        if settings["lr"] > 1e-4:
            raise FloatingPointError("the loss is nan in step 3")
        raise ValueError("the head does not fit")

    monkeypatch.setattr(suite_cell, "finetune", bad)
    found = go(model, data, tmp_path, chosen=["sst2"], seeds=1, protocols=[Protocol("hot", factors=(60.0,))])
    (row,) = found["rows"]
    assert row["sets"]["sst2"]["mean"] is None and row["aggregate"]["mean"] is None and found["failed"] == []
    assert row["sets"]["sst2"]["degenerate"] == {"0": "diverged: the loss is nan in step 3"}
    assert "| sst2 | accuracy | 0.500 |" in markdown(found) and "not defined, 1 of 1 degenerate" in markdown(found)
    found = go(model, data, tmp_path, protocols=["fixed"], seeds=1)  # the others go on
    assert [x["cell"] for x in found["failed"]] == [f"tiny--{x}--full--fixed--seed0" for x in ("sst2", "wnut17")]
    assert "ValueError: the head does not fit" in found["failed"][0]["why"]
    assert len(list((tmp_path / "cells").iterdir())) == 1  # it is tried again next time


def test_the_aggregate_is_the_mean_over_kinds(tmp_path):
    """As BLURB's: a kind with two sets counts once."""
    (tmp_path / "sets").mkdir()
    (tmp_path / "cells").mkdir()
    for name, kind in (("sst2", "sentences"), ("wnut17", "entities"), ("bc5cdr", "entities"), ("mine", "entities")):
        about = {"set": name, "kind": kind, "metric": "score", "shown": "score", "baselines": {}}
        (tmp_path / "sets" / f"{name}.json").write_text(json.dumps(about))
    scores = {"sst2": [0.9, 0.7, 0.1], "wnut17": [0.4, 0.2], "bc5cdr": [0.8, 0.6]}
    for name, values in scores.items():
        for seed, score in enumerate(values):
            cell = Cell("m", "x", name, "full", QUICK, seed, None, 0)
            held = {"asked": cell.asked(), "score": score, "test": {"score": score}, "trials": [{}], "seconds": 1.0}
            held |= {
                "memory": 10 + seed,
                "device_memory": None,
                "degenerate": "it is no better" if score < 0.3 else None,
            }
            (tmp_path / "cells" / f"{cell.stem}.json").write_text(json.dumps(held))
    found = summary(tmp_path)
    (row,) = found["rows"]
    each = [np.mean([0.9, np.mean([0.4, 0.8])]), np.mean([0.7, np.mean([0.2, 0.6])])]  # the seeds that all sets have
    assert row["aggregate"] == t_interval(pytest.approx(each).expected) | {"sets": ["sst2", "wnut17", "bc5cdr"]}
    assert row["kinds"] == {"sentences": pytest.approx(0.8), "entities": pytest.approx(0.5)}
    assert list(found["sets"]) == ["sst2", "wnut17", "bc5cdr", "mine"] and row["missing"] == ["mine"]
    assert row["sets"]["sst2"]["degenerate"] == {"2": "it is no better"} and row["sets"]["sst2"]["memory"] == 12
    assert "0.567 [" in markdown(found) and ", 1 of 3 degenerate" in markdown(found)


def test_the_transfer_matrix(model, data, tmp_path, monkeypatch):
    given = {"protocol": QUICK, "limit": 48, "seeds": 1, "progress": False}
    found = transfer.across(model, tmp_path, data, **given, say=lambda _: None)
    names = ["conjnli", "rte", "sick"]
    assert list(found["matrix"]) == names and found["labels"] == ["entailment", "not_entailment"]
    for source in names:
        made = json.loads((tmp_path / "across" / "cells" / f"tiny--{source}--full--quick--seed0.json").read_text())
        for target in names:
            entry = found["matrix"][source][target]
            assert entry["accuracy"]["mean"] == made["across"][target]["accuracy"] and entry["accuracy"]["n"] == 1
            assert entry["degenerate"] == [0] * made["across"][target]["constant"]
        assert (
            made["across"][source]["accuracy"] == made["score"]
        )  # what is tested elsewhere is what is reported at home
    assert found["majority"]["conjnli"] in (7 / 15, 8 / 15) and found["majority"]["rte"] in (10 / 21, 11 / 21)
    said = (tmp_path / "across.md").read_text().splitlines()
    assert (
        said[2] == "| trained on | conjnli | rte | sick |"
        and len(said) == 8
        and said[-1].startswith("| one answer | 0.")
    )
    assert json.loads((tmp_path / "across.json").read_text()) == json.loads(json.dumps(found))
    monkeypatch.setattr(suite_cell, "finetune", None)
    assert transfer.across(model, tmp_path, data, **given, say=lambda _: None) == found
    with pytest.raises(ValueError, match="no set of entailment 'mnli'; there are: conjnli, rte, sick"):
        transfer.across(model, tmp_path, data, ["mnli"])


def test_three_labels_become_the_two_that_all_share(data):
    one = transfer.two_way(sets.read("conjnli", data))
    old = sets.read("conjnli", data)
    pairs = set(zip(old.train.label + old.test.label, one.train.label + one.test.label, strict=True))
    assert pairs == {
        ("entailment", "entailment"),
        ("neutral", "not_entailment"),
        ("contradiction", "not_entailment"),
    }


def test_the_peak_is_that_of_the_work_alone():
    def own(count):
        with Peak() as peak:
            np.ones(count, np.uint8).sum()
        return peak

    if own(1).memory is None:
        pytest.skip("the kernel does not tell the peak of resident memory, or cannot set it back")
    kernels.keep_memory()  # as training does: what is freed stays resident
    one, much, after = own(1), own(60_000_000), own(1)
    assert 50_000_000 < much.memory - much.before < 160_000_000
    assert one.memory - one.before < 90_000_000 and after.before < much.memory - 40_000_000


def command(monkeypatch, capsys, *words):
    """(exit code, standard output, standard error) of `bertsmith evaluate` with these words."""
    monkeypatch.setattr(sys, "argv", ["bertsmith", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, *capsys.readouterr()


def test_the_command(finished, model, data, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(suite_cell.PROTOCOLS, "fixed", QUICK)
    monkeypatch.setenv("BERTSMITH_DATA", str(data))
    words = (model, "--suite", "english", "--sets", "sst2,wnut17", "--limit", 64, "--seeds", 2, "--out", finished[0])
    code, out, _ = command(monkeypatch, capsys, *words)
    assert code == 0 and out.strip() == markdown(finished[1])
    assert json.loads(command(monkeypatch, capsys, *words, "--json")[1]) == json.loads(json.dumps(finished[1]))
    words = (model, "--suite", "english", "--sets", "sst2", "--limit", 32, "--seeds", 1, "--out", tmp_path / "b")
    code, out, _ = command(monkeypatch, capsys, *words, "--baselines", "none", "--json")
    assert code == 0 and set(json.loads(out)["sets"]["sst2"]["baselines"]) == {"majority"}
    words = (model, "--across", "--sets", "rte", "--limit", 32, "--seeds", 1, "--out", tmp_path)
    code, out, err = command(monkeypatch, capsys, *words)
    assert code == 0 and "| trained on | rte |" in out and "across: tiny--rte--full--quick--seed0" in err
    for words, says in (
        ((model,), "say what to measure on"),
        ((model, "--suite", "english"), "need --out"),
        ((model, "--across", "--methods", "full,bitfit", "--out", tmp_path), "one matrix"),
        ((model, "--suite", "english", "--sets", "sst3", "--out", tmp_path), "no set 'sst3'"),
        (
            (model, "--suite", "english", "--baselines", "knn", "--out", tmp_path),
            "no baselines 'knn'; there are: tfidf",
        ),
    ):
        code, _, err = command(monkeypatch, capsys, *words)
        assert code == 2 and says in err

    def broken(*args, **settings):
        raise ValueError("the head does not fit")

    monkeypatch.setattr(suite_cell, "finetune", broken)
    words = (model, "--suite", "english", "--sets", "trec", "--seeds", 1, "--out", tmp_path)
    code, _, err = command(monkeypatch, capsys, *words)
    assert code == 1 and "1 cells could not be done, the first: tiny--trec--full--quick--seed0" in err


@pytest.mark.slow
def test_every_set_goes_through_a_cell(model, data, tmp_path):
    brief = Protocol("brief", epochs=1)
    found = go(model, data, tmp_path, chosen=sets.names(), protocols=[brief], seeds=1)
    assert found["failed"] == []
    (row,) = found["rows"]
    assert (
        set(row["sets"]) == set(sets.names()) and found["sets"]["inspec"]["baselines"]["majority"]["present_f1"] == 0.0
    )
    assert all(
        entry["mean"] is not None for name, entry in row["sets"].items() if name != "stsb"
    )  # too few for a correlation
    assert {"in_scope_accuracy", "oos_recall"} <= row["sets"]["clinc150"]["test"].keys()


DATA = Path(os.environ.get("BERTSMITH_DATA", "nowhere")) / "tasks"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="BERTSMITH_DATA names no folder with tasks")
@pytest.mark.parametrize("name", sets.names())
def test_the_real_sets_have_their_official_sizes(name):
    try:
        one = sets.read(name, DATA)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert sizes(one) == COUNTS[name][1]
    assert all(text.strip() for part in (one.train, one.valid, one.test) for text in part.text)
