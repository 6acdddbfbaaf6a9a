"""Sets about two texts: paraphrase, entailment, similarity."""

from dataclasses import replace

from bertsmith.examples import Examples
from bertsmith.sets import TaskSet, with_valid
from bertsmith.sets.lines import columns, comma_cells, tab_cells
from bertsmith.sets.shelf import Shelf
from bertsmith.task import task

ENTAILMENT = "entailment"


def mrpc(shelf: Shelf) -> TaskSet:
    """Whether two sentences of news say the same."""
    paths = shelf.files("glue_mrpc", ["msr_paraphrase_train.txt", "msr_paraphrase_test.txt"])
    splits = with_valid(*(columns(tab_cells(path, skip=1), 3, 0, pair=4) for path in paths))
    return TaskSet(
        "mrpc",
        "pairs",
        task("single_label", main="f1"),
        "f1",
        *splits,
        made="valid: a tenth of train by a hash of the texts, stratified; test: that of the MSR corpus, which is GLUE's",
        citation="Dolan and Brockett 2005, I05-5002; GLUE, Wang et al. 2018, arXiv:1804.07461",
        licence="Microsoft Research; research use",
    )


def rte(shelf: Shelf) -> TaskSet:
    """Whether a text entails a sentence."""
    paths = shelf.files("glue_rte", ["train.tsv", "dev.tsv"])
    splits = with_valid(*(columns(tab_cells(path, skip=1), 1, 3, pair=2) for path in paths))
    return TaskSet(
        "rte",
        "pairs",
        task("single_label"),
        "accuracy",
        *splits,
        made="valid: a tenth of train by a hash of the texts, stratified; test: GLUE's dev, as its test has no labels",
        citation="Bentivogli et al. 2009 and the RTE challenges before; GLUE, Wang et al. 2018, arXiv:1804.07461",
        licence="PASCAL RTE; research use",
    )


def conjnli(shelf: Shelf) -> TaskSet:
    """Entailment that hangs on "and", "or", "but"; the training pairs were made by rules."""
    paths = shelf.files("conjnli", ["adversarial_train_15k.tsv", "conj_dev.tsv"])
    splits = with_valid(*(columns(tab_cells(path, skip=1), 0, 2, pair=1) for path in paths))
    return TaskSet(
        "conjnli",
        "pairs",
        task("single_label"),
        "accuracy",
        *splits,
        made="valid: a tenth of train by a hash of the texts, stratified; test: the official dev, as test has no labels",
        citation="Saha, Nie and Bansal 2020, arXiv:2010.10418",
        licence="MIT",
    )


def sick(shelf: Shelf) -> TaskSet:
    """Entailment between captions."""
    names = ["SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"]
    splits = []
    for path in shelf.files("sts12_16_sick", [f"sick2014/{name}" for name in names]):
        found = columns(tab_cells(path, skip=1), 1, 4, pair=2)
        splits.append(replace(found, label=[label.lower() for label in found.label]))
    return TaskSet(
        "sick",
        "pairs",
        task("single_label"),
        "accuracy",
        *splits,
        made="those of SemEval 2014: train, trial to choose by, test",
        citation="Marelli et al. 2014, L14-1314",
        licence="CC BY-NC-SA 3.0",
    )


def stsb(shelf: Shelf) -> TaskSet:
    """How alike two sentences are, from 0 to 5 (English)."""
    paths = shelf.files("stsb_multi", [f"stsb-en-{name}.csv" for name in ("train", "dev", "test")])
    splits = []
    for path in paths:
        rows = [row for row in comma_cells(path) if row]
        splits.append(Examples([r[0] for r in rows], [r[1] for r in rows], [float(r[2]) for r in rows]))
    return TaskSet(
        "stsb",
        "similarity",
        task("regression"),
        "pearson",
        *splits,
        made="the official ones",
        citation="Cer et al. 2017, arXiv:1708.00055",
        licence="CC BY-SA 4.0, for the most part",
    )
