"""What a pre-trained encoder knows before any fine-tuning: python benchmarks/pretrained.py MODEL --out docs/results/NAME.json.

Masked-LM loss and accuracy on both held-out files of $BERTSMITH_DATA/corpus, BLiMP by pseudo-log-likelihood, and what the
run's log says of its budget.
"""

import argparse
import json
import os
from pathlib import Path

from about import about, write

import bertsmith
from bertsmith.blimp import blimp
from bertsmith.evaluate import masked_lm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", default="")
    parser.add_argument("--rows", type=int, default=200, help="rows of each held-out file")
    parser.add_argument("--blimp", type=int, default=200, help="pairs of each paradigm")
    args = parser.parse_args()
    data, model = Path(os.environ["BERTSMITH_DATA"]), bertsmith.load(args.model)
    result: dict = about() | {"parameters": sum(p.numel() for p in model.encoder.parameters())}
    run = json.loads((args.model / "run.json").read_text())
    lines = [json.loads(line) for line in (args.model / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    result["run"] = {
        "budget": run["stages"][0]["budget"],
        "seed": run["seed"],
        "precision": run["precision"],
        "steps": steps[-1]["step"],
        "tokens": steps[-1]["all_tokens"],
        "seconds": sum(line["seconds"] for line in steps),
        "last_train_loss": steps[-1]["loss"],
    }
    for name in ("wikipedia", "gutenberg"):
        result[f"valid_{name}"] = masked_lm(model, data / "corpus" / f"valid-{name}.txt.xz", limit=args.rows)
    scores = blimp(model, data / "tasks" / "blimp.tar.xz", limit=args.blimp)
    result["blimp"] = {k: v for k, v in scores.items() if k != "paradigms"}
    write(result, args.out)


if __name__ == "__main__":
    main()
