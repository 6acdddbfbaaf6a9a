"""Masked-LM loss of the compiled step beside torch in bf16, step by step, from the same starts and seeds on the same text.

    python benchmarks/loss_curve.py FILE [--steps 2000] [--seeds 3] [--dropout 0.1] [--out results.json]

A BERT of 2 x 128 on the first 200,000 words of a text, WordPiece of 4,000, rows of 64 tokens, 16 a step. What is compared is
the mean loss of each tenth of the steps: the difference of the two ways with a seed, beside the standard deviation of torch's
own over the seeds, which is what a difference must be seen against. Both ways draw the same masks of tokens; dropout's differ.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from about import about, write

PARTS = 10


def losses(work: Path, shards: Path, way: str, seed: int, steps: int, dropout: float) -> list[float]:
    """The loss of every step."""
    from contextlib import nullcontext

    from bertsmith import kernels
    from bertsmith.data import data
    from bertsmith.hf.bert import bert_encoder
    from bertsmith.masking import masking
    from bertsmith.objective import objective
    from bertsmith.optim import optim
    from bertsmith.train import Run, Stage, train

    encoder = bert_encoder(2, 128, 4, 4000, length=64)
    for path in ("embedding.dropout", "blocks.0.mixer.dropout", "blocks.0.residual.dropout"):
        encoder = encoder.replace(path, dropout)
    source = data("packed", path=str(shards), rows=16, length=64, seed=seed)
    goal = objective("masked_lm", masking=masking("bert"))
    run = Run(encoder, [Stage(goal, source, f"{steps}-steps", optim=optim("adamw", lr=1e-3))], seed=seed, workers=0,
              precision="bf16", log_every=1)  # fmt: skip
    out = work / f"{way}-{seed}"
    with kernels.piecewise() if way == "torch" else nullcontext():
        train(run, out, progress=False)
    return [line["loss"] for line in map(json.loads, (out / "log.jsonl").open()) if "loss" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a text")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--out", default="")
    args = parser.parse_args()

    from bertsmith.corpus.prepare import prepare
    from bertsmith.tokenizer.train import train_wordpiece

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        words = Path(args.file).read_text(encoding="utf-8").split(" ")[:200_000]
        (work / "text.txt").write_text(" ".join(words), encoding="utf-8")
        prepare(work / "text.txt", work / "shards", train_wordpiece([str(work / "text.txt")], 4000), 0)
        found = {
            way: [losses(work, work / "shards", way, seed, args.steps, args.dropout) for seed in range(args.seeds)]
            for way in ("torch", "compiled")
        }
    each = args.steps // PARTS
    tenths = {
        way: [[statistics.fmean(one[i * each : (i + 1) * each]) for i in range(PARTS)] for one in runs]
        for way, runs in found.items()
    }
    rows = {}
    for i in range(PARTS):
        torchs, ours = ([run[i] for run in tenths[way]] for way in ("torch", "compiled"))
        rows[f"steps to {(i + 1) * each}"] = {
            "torch": statistics.fmean(torchs),
            "compiled": statistics.fmean(ours),
            "mean difference": statistics.fmean(b - a for a, b in zip(torchs, ours, strict=True)),
            "torch's deviation over seeds": statistics.stdev(torchs) if len(torchs) > 1 else 0.0,
        }
    write(about() | {"steps": args.steps, "seeds": args.seeds, "dropout": args.dropout, "curve": rows}, args.out)


if __name__ == "__main__":
    main()
