"""Fine-tuning on small tasks of GLUE (Wang et al. 2018, arXiv:1804.07461), beside what any number must beat.

    BERTSMITH_DATA=... python benchmarks/glue_small.py MODEL [MODEL ...] --out results.json
        [--tasks sst2 cola rte mrpc stsb] [--seeds 5] [--epochs 3] [--lr 5e-5] [--batch 32] [--train-limit N]
        [--no-random]

For every model directory and task: fine-tune over seeds; the same with an encoder of the same shape and random
weights; the majority answer; TF-IDF with a linear model. Splits are those that have labels here, and the epoch is
never chosen on the reported one:

    sst2   train / valid: 10 % of train by hash / test: GLUE dev (872)              accuracy
    cola   train / valid: 10 % of train by hash / test: in- and out-of-domain dev   Matthews correlation
    rte    train / valid: 10 % of train by hash / test: GLUE dev (277)              accuracy
    mrpc   train / valid: 10 % of train by hash / test: MSRP test (1,725)           F1
    stsb   train / valid: dev / test: test (1,379), English                         Pearson

Archives are read in memory: nothing is unpacked to disk. The JSON holds the commit, the machine, the settings and
every seed.
"""

import argparse
import csv
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from about import about

import bertsmith
from bertsmith.draw import draw
from bertsmith.files import write_atomic
from bertsmith.init import initialise
from bertsmith.model import Bundle, Model
from bertsmith.table import Table
from bertsmith.task import task
from bertsmith.tuning import finetune

Rows = list[list[str]]
METRICS = {"sst2": "accuracy", "cola": "matthews", "rte": "accuracy", "mrpc": "f1", "stsb": "pearson"}


def read(archive: Path, member: str, separator: str = "\t") -> Rows:
    """The cells of a member of a tar archive; a tsv of GLUE has no quoting."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        if file is None:
            raise FileNotFoundError(f"{archive} holds no file {member}")
        text = file.read().decode("utf-8-sig")
    if separator == "\t":
        return [line.removesuffix("\r").split("\t") for line in text.split("\n") if line.strip()]
    return list(csv.reader(io.StringIO(text, newline="")))


def table(name: str, rows: Rows, text: int, label: int, pair: int | None = None) -> Table:
    """A table of the columns with these numbers."""
    columns: dict[str, list[Any]] = {"text": [r[text] for r in rows], "label": [r[label] for r in rows]}
    return Table(name, columns if pair is None else columns | {"pair": [r[pair] for r in rows]})


def load_task(name: str, folder: Path) -> dict[str, Table]:
    """{"train", "test", perhaps "valid"}: tables with columns text, perhaps pair, and label."""
    if name == "sst2":
        parts = {"train": "train_full", "test": "dev"}
        return {
            k: table(name, read(folder / "glue_sst2.tar.xz", f"glue_sst2/{v}.tsv")[1:], 0, 1) for k, v in parts.items()
        }
    if name == "cola":
        parts = {"train": ["in_domain_train"], "test": ["in_domain_dev", "out_of_domain_dev"]}
        rows = {
            k: [r for v in vs for r in read(folder / "cola.tar.xz", f"cola/raw/{v}.tsv")] for k, vs in parts.items()
        }
        return {k: table(name, r, 3, 1) for k, r in rows.items()}
    if name == "rte":
        parts = {"train": "train", "test": "dev"}
        return {
            k: table(name, read(folder / "glue_rte.tar.xz", f"glue_rte/{v}.tsv")[1:], 1, 3, 2) for k, v in parts.items()
        }
    if name == "mrpc":
        rows = {
            k: read(folder / "glue_mrpc.tar.xz", f"glue_mrpc/msr_paraphrase_{k}.txt")[1:] for k in ("train", "test")
        }
        return {k: table(name, r, 3, 0, 4) for k, r in rows.items()}
    if name == "stsb":
        parts = {"train": "train", "valid": "dev", "test": "test"}
        return {
            k: table(name, read(folder / "stsb_multi.tar.xz", f"stsb_multi/stsb-en-{v}.csv", ","), 0, 2, 1)
            for k, v in parts.items()
        }
    raise ValueError(f"no task {name!r}; there are: {', '.join(METRICS)}")


def first(whole: Table, limit: int) -> Table:
    """`limit` rows drawn by a hash of their place: a smaller task for a quick look."""
    rows = sorted(sorted(range(len(whole)), key=lambda i: draw(0, "limit", i))[:limit])
    return Table(whole.name, {name: [cells[i] for i in rows] for name, cells in whole.columns.items()})


def random_twin(model: Model, seed: int) -> Model:
    """An encoder of the same shape and tokenizer, with fresh weights."""
    encoder = model.spec.build()
    initialise(encoder, encoder.init, seed)
    return Model(model.spec, Bundle(encoder, None), model.tokenizer, pooling=model.pooling, max_length=model.max_length)


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Task (metric) -> who -> its figure: mean of the seeds with the 95 % interval, and the baselines."""
    found: dict[str, Any] = {}
    for entry in results:
        lines = found.setdefault(f"{entry['task']} ({entry['metric']})", {})
        value = entry["report"]["test"][entry["metric"]]
        span = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
        off = sum(1 for s in entry["report"]["seeds"] if s["degenerate"])
        lost = f", {off} degenerate" if off else ""
        lines[f"{entry['model']}, {entry['weights']} weights"] = f"{value['mean']:.3f}{span}{lost}"
        for name, metrics in entry["report"]["baselines"].items():
            if metrics[entry["metric"]] is not None:
                lines[name] = f"{metrics[entry['metric']]:.3f}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="directories that bertsmith.load opens")
    parser.add_argument("--data", default=os.environ.get("BERTSMITH_DATA"), help="default: $BERTSMITH_DATA")
    parser.add_argument("--out", required=True)
    parser.add_argument("--tasks", nargs="+", choices=sorted(METRICS), default=sorted(METRICS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--train-limit", type=int, default=0, help="only so many training rows; 0: all")
    parser.add_argument("--no-random", action="store_true", help="leave out the encoders with random weights")
    given = parser.parse_args()
    if given.data is None:
        parser.error("say where the data are: --data FOLDER, or BERTSMITH_DATA")
    folder = Path(given.data) / "tasks"
    out: dict[str, Any] = about() | {"results": []}
    for path in given.models:
        loaded = bertsmith.load(path)
        for name in given.tasks:
            parts = load_task(name, folder)
            if given.train_limit:
                parts["train"] = first(parts["train"], given.train_limit)
            kind = task("regression") if name == "stsb" else task("single_label", main=METRICS[name])
            twins = {"given": loaded} if given.no_random else {"given": loaded, "random": random_twin(loaded, 0)}
            for weights, model in twins.items():
                begin = time.monotonic()
                tuned = finetune(
                    model,
                    parts["train"],
                    text="text",
                    pair="pair" if "pair" in parts["train"].columns else None,
                    label="label",
                    valid=parts.get("valid"),
                    test=parts["test"],
                    seeds=given.seeds,
                    epochs=given.epochs,
                    lr=given.lr,
                    batch=given.batch,
                    max_length=given.max_length,
                    task=kind,
                    baselines=weights == "given",
                )
                entry = {
                    "model": Path(path).name,
                    "weights": weights,
                    "task": name,
                    "metric": METRICS[name],
                    "report": tuned.report,
                }
                out["results"].append(entry | {"seconds": time.monotonic() - begin})
                out["summary"] = summary(out["results"])
                write_atomic(given.out, json.dumps(out, indent=1))
    for entry in out["results"]:
        value = entry["report"]["test"][entry["metric"]]
        span = "" if value["low"] is None else f"  [{value['low']:.4f}, {value['high']:.4f}]"
        print(
            f"{entry['model']}  {entry['weights']:6}  {entry['task']:5}  {entry['metric']:9} {value['mean']:.4f}{span}"
        )


if __name__ == "__main__":
    main()
