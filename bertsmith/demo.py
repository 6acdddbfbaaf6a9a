"""From raw text to a working BERT in a few minutes, with what ships in the package: `bertsmith demo`.

Children's books in the public domain are pre-trained on; twelve intents of CLINC150 are the labelled set. See
assets/ATTRIBUTION.md for whose they are.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import binomtest

from bertsmith.corpus.shards import Shards
from bertsmith.evaluate import masked_lm
from bertsmith.files import write_atomic
from bertsmith.model import Model
from bertsmith.pretrain import pretrain
from bertsmith.report import write_report
from bertsmith.tuning import finetune

ASSETS = Path(__file__).parent / "assets"
MASKED = (
    "once upon a [MASK] there was a king who had three daughters.",
    "she opened the [MASK] and went into the house.",
    "the little girl looked [MASK] at her mother.",
)


@dataclass(frozen=True)
class Size:
    """How much, settled by trial (docs/log.md): of pre-training steps and vocabulary, of fine-tuning epochs."""

    steps: int
    vocab: int
    epochs: int


FULL = Size(steps=3000, vocab=4000, epochs=10)
QUICK = Size(steps=600, vocab=3000, epochs=8)
# Few rows and a high rate: on so little text many small steps learn more in a minute than few large ones.
SETTINGS = {"stages.0.data.rows": 8, "stages.0.optim.lr": 2e-3}


def demo(out: Path | str = "runs/demo", quick: bool = False, progress: bool = True) -> dict[str, Any]:
    """Vocabulary, shards, pre-training, filled masks, fine-tuning, report.

    Args:
        out: a folder; what an interrupted demo left there is used. A folder with a demo of other size is refused.
        progress: show bars and remarks on the standard error.

    Returns:
        plain JSON: "masked_lm" (on books held out: loss, accuracy, and that of always saying the commonest token),
        "examples" (filled masks), "test" (accuracy of the classifier and of its two baselines), "seconds", "report".
    """
    out, size, begun = Path(out), QUICK if quick else FULL, time.monotonic()
    console = Console(stderr=True, highlight=False, quiet=not progress)
    console.print(f"[bold]1/4[/] pre-training a tiny BERT for {size.steps:,} steps on 3 MB of children's books")
    model = pretrain(
        "brief_tiny",
        ASSETS / "corpus.txt.xz",
        out,
        budget=f"{size.steps}-steps",
        vocab=size.vocab,
        overrides=SETTINGS,
        progress=progress,
        say=console.print,
    )
    console.print("[bold]2/4[/] guessing masked words in two books that it has not read")
    held_out = masked_lm(model, ASSETS / "heldout.txt.xz", limit=100)
    held_out |= {"commonest": _commonest(out / "data"), "first_loss": _first_loss(out)}
    filled = [asdict(one) for one in model.fill(list(MASKED), top=5)]
    examples = [
        {"text": text, "guesses": [[g["token"], g["probability"]] for g in one["guesses"][0]]}
        for text, one in zip(MASKED, filled, strict=True)
    ]
    write_atomic(out / "examples.json", json.dumps(examples, indent=1))
    console.print("[bold]3/4[/] fine-tuning it to tell twelve intents apart")
    tuned = _classifier(model, out, size, progress)
    test = {"bert": tuned.report["test"]["accuracy"]["mean"]}
    test |= {name: tuned.report["baselines"][name]["accuracy"] for name in ("majority", "tfidf")}
    count = tuned.report["splits"]["test"]
    write_atomic(out / "scores.json", json.dumps(_rows(test, count, held_out), indent=1))
    console.print("[bold]4/4[/] writing the report")
    page = write_report(out)
    result = {
        "masked_lm": held_out,
        "examples": examples,
        "test": test,
        "seconds": round(time.monotonic() - begun, 1),
        "report": str(page),
    }
    if progress:
        _show(result)
    return result


def _classifier(model: Model, out: Path, size: Size, progress: bool) -> Model:
    return finetune(
        model,
        ASSETS / "clinc12_train.csv",
        "text",
        label="label",
        test=ASSETS / "clinc12_test.csv",
        out=out / "classifier",
        epochs=size.epochs,
        lr=1e-3,
        max_length=40,
        progress=progress,
        say=lambda line: print(f"  {line}", file=sys.stderr),
    )


def _commonest(prepared: Path) -> float:
    """The share of the commonest token: the accuracy of always guessing it."""
    shards = Shards(prepared)
    counts = np.zeros(1 << 16, np.int64)
    for i in range(shards.documents):
        counts += np.bincount(shards.document(i), minlength=len(counts))
    return float(counts.max() / counts.sum())


def _first_loss(out: Path) -> float:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return next(line["loss"] for line in map(json.loads, lines) if "step" in line)


def _rows(test: dict[str, float], count: int, held_out: dict[str, float]) -> list[list[Any]]:
    """Rows of scores.json, accuracies with Wilson's 95 % interval."""
    names = {"bert": "tiny BERT, fine-tuned", "tfidf": "TF-IDF and logistic regression", "majority": "majority class"}
    told = [(name, "accuracy on 12 intents", test[key], count) for key, name in names.items()]
    asked = int(held_out["asked"])
    told.append(("tiny BERT", "masked tokens guessed in unseen books", held_out["accuracy"], asked))
    told.append(("commonest token", "masked tokens guessed in unseen books", held_out["commonest"], asked))
    rows: list[list[Any]] = []
    for name, metric, value, n in told:
        interval = binomtest(round(value * n), n).proportion_ci(method="wilson")
        rows.append([name, metric, value, interval.low, interval.high])
    return rows


def _show(result: dict[str, Any]) -> None:
    """Print a result for people."""
    console = Console(highlight=False, markup=False)
    lm, test = result["masked_lm"], result["test"]
    console.print(
        f"\nmasked-LM loss   {lm['first_loss']:.2f} at first, {lm['loss']:.2f} at the end, on books it has not read"
    )
    console.print(f"masked accuracy  {lm['accuracy']:.1%}; always saying the commonest token: {lm['commonest']:.1%}")
    for example in result["examples"]:
        guesses = ", ".join(f"{word} {share:.0%}" for word, share in example["guesses"])
        console.print(f"  {example['text']}\n    {guesses}")
    console.print(
        f"twelve intents   tiny BERT {test['bert']:.1%}, TF-IDF {test['tfidf']:.1%}, majority {test['majority']:.1%}"
    )
    console.print(f"{result['seconds']:.0f} seconds; open {result['report']}")
