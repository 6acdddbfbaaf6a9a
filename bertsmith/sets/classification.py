"""Sets with a label, or several, for a text."""

import numpy as np

from bertsmith.examples import Examples
from bertsmith.labelled.source import read_json, read_text
from bertsmith.metric import metric
from bertsmith.sets import TaskSet, cut_off, with_valid
from bertsmith.sets.lines import columns, comma_cells, tab_cells
from bertsmith.sets.shelf import Shelf
from bertsmith.task import task

OUT_OF_SCOPE = "oos"


def sst2(shelf: Shelf) -> TaskSet:
    """Sentiment of phrases (training) and sentences of film reviews."""
    paths = shelf.files("glue_sst2", ["train_full.tsv", "dev.tsv", "test-labeled.tsv"])
    splits = [columns(tab_cells(path, skip=1), 0, 1) for path in paths]
    return TaskSet(
        "sst2",
        "sentences",
        task("single_label"),
        "accuracy",
        *splits,
        made="GLUE's: train, dev to choose by, test with its labels",
        citation="Socher et al. 2013, D13-1170; GLUE, Wang et al. 2018, arXiv:1804.07461",
        licence="none stated; research use",
    )


def cola(shelf: Shelf) -> TaskSet:
    """Whether a sentence is English, in the judgement of linguists."""
    names = ["in_domain_train", "in_domain_dev", "out_of_domain_dev"]
    parts = [columns(tab_cells(path), 3, 1) for path in shelf.files("cola", [f"raw/{name}.tsv" for name in names])]
    train, valid = cut_off(parts[0], "valid", parts[0].label)
    test = Examples(parts[1].text + parts[2].text, None, parts[1].label + parts[2].label)
    inside = len(parts[1])

    def also(answers: list[str]) -> dict[str, float]:
        found = {}
        for name, rows in (("in_domain", slice(inside)), ("out_of_domain", slice(inside, None))):
            measured = metric("matthews").build(2)
            measured.add(*(np.array([int(x) for x in one[rows]], np.int64) for one in (answers, test.label)))
            found[f"{name}_matthews"] = measured.value()
        return found

    return TaskSet(
        "cola",
        "sentences",
        task("single_label", main="matthews"),
        "matthews",
        train,
        valid,
        test,
        made="valid: a tenth of train by a hash of the text, as test has no public labels; test: GLUE's dev, in and out of "
        "domain together",
        citation="Warstadt et al. 2018, arXiv:1805.12471",
        licence="texts of published linguistics; research use",
        also=also,
    )


def trec(shelf: Shelf) -> TaskSet:
    """What kind of thing a question asks for: six classes."""
    paths = shelf.files("sentence_sets", ["raw/TREC.train", "raw/TREC.test"])
    splits = with_valid(*(_first_word(read_text(path, "latin-1")) for path in paths))
    return TaskSet(
        "trec",
        "sentences",
        task("single_label"),
        "accuracy",
        *splits,
        made="valid: a tenth of train by a hash of the text; test: the official one",
        citation="Li and Roth 2002, C02-1150",
        licence="none stated; research use",
    )


def clinc150(shelf: Shelf) -> TaskSet:
    """150 intents, and what is none of them."""
    (path,) = shelf.files("clinc150", ["data_full.json"])
    held = read_json(path)
    train, valid, test = (columns([*held[name], *held[f"oos_{name}"]], 0, 1) for name in ("train", "val", "test"))

    def also(answers: list[str]) -> dict[str, float]:
        right = [said == true for said, true in zip(answers, test.label, strict=True)]
        outside = [true == OUT_OF_SCOPE for true in test.label]
        inside = [ok for ok, out in zip(right, outside, strict=True) if not out]
        beyond = [ok for ok, out in zip(right, outside, strict=True) if out]
        return {name: sum(x) / len(x) for name, x in (("in_scope_accuracy", inside), ("oos_recall", beyond)) if x}

    return TaskSet(
        "clinc150",
        "intents",
        task("single_label"),
        "accuracy",
        train,
        valid,
        test,
        made="the official ones; out-of-scope is a class of its own, with the 100 examples of it that train has",
        citation="Larson et al. 2019, arXiv:1909.02027",
        licence="CC BY 3.0",
        also=also,
    )


def banking77(shelf: Shelf) -> TaskSet:
    """77 intents of customers of a bank."""
    paths = shelf.files("banking77", ["train.csv", "test.csv"])
    splits = with_valid(*(columns(comma_cells(path, skip=1), 0, 1) for path in paths))
    return TaskSet(
        "banking77",
        "intents",
        task("single_label"),
        "accuracy",
        *splits,
        made="valid: a tenth of train by a hash of the text, stratified; test: the official one",
        citation="Casanueva et al. 2020, arXiv:2003.04807",
        licence="CC BY 4.0",
    )


def goemotions(shelf: Shelf) -> TaskSet:
    """Any of 28 emotions in a comment."""
    labels, *paths = shelf.files(
        "goemotions", [f"original/{x}" for x in ("labels.txt", "train.tsv", "dev.tsv", "test.tsv")]
    )
    emotions = read_text(labels).split()
    splits = []
    for path in paths:
        rows = tab_cells(path)
        named = [[emotions[int(number)] for number in row[1].split(",")] for row in rows]
        splits.append(Examples([row[0] for row in rows], None, named))
    return TaskSet(
        "goemotions",
        "emotions",
        task("multi_label", main="macro_f1"),
        "macro_f1",
        *splits,
        made="the official ones",
        citation="Demszky et al. 2020, arXiv:2005.00547",
        licence="Apache-2.0",
    )


def _first_word(text: str) -> Examples:
    """Lines of "CLASS:finer text"."""
    lines = [line.split(" ", 1) for line in text.split("\n") if line.strip()]
    return Examples([line[1].strip() for line in lines], None, [line[0].partition(":")[0] for line in lines])
