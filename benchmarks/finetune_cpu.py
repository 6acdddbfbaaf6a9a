"""Fine-tuning on SST-2 beside the loop of `transformers`' example (run_glue_no_trainer.py), one epoch of the same rows.

    BERTSMITH_DATA=... python benchmarks/finetune_cpu.py MODEL [--rows 2000] [--rounds 3] [--out results.json]

The peer: fp32, AdamW at 5e-5 with a linear schedule, rows padded to the longest of the batch, shuffled, 8 a batch as the
script has it ("peer_8") and 32 ("peer_32"). Ours: `finetune` as it is, 32 a batch (and 8), in what precision it chooses. Each
run is a process of its own, with its C library's allocator at its best; they alternate, and the seed is the round's. Timed are
the steps of the epoch, not the reading of rows; ours with the writing of its checkpoint. MODEL is a directory that both open.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from about import about, write
from pretrain_cpu import KEEP

WAYS = ("ours_32", "peer_32", "ours_8", "peer_8")
LENGTH = 128


def some(examples: Any, limit: int | None = None) -> Any:
    """A table of these, or of so many that are drawn by a hash of their place."""
    from bertsmith.draw import draw
    from bertsmith.table import Table

    rows = sorted(sorted(range(len(examples)), key=lambda i: draw(0, "limit", i))[:limit])
    return Table("sst2", {"text": [examples.text[i] for i in rows], "label": [examples.label[i] for i in rows]})


def ours(folder: str, train: Any, few: Any, dev: Any, batch: int, seed: int) -> tuple[float, float]:
    """(seconds of the epoch, accuracy on dev); `few` are what `finetune` chooses an epoch by, of which there is one."""
    import bertsmith
    from bertsmith import tuning

    inner, spent = tuning.train, []

    def timed(*given: Any, **more: Any) -> Any:
        start = time.perf_counter()
        done = inner(*given, **more)
        spent.append(time.perf_counter() - start)
        return done

    tuning.train = timed  # the loop and nothing else
    model = bertsmith.load(folder)
    tuned = bertsmith.finetune(
        model, train, valid=few, test=dev, epochs=1, batch=batch, seed=seed, baselines=False, progress=False
    )
    return sum(spent), tuned.report["test"]["accuracy"]["mean"]


def peer(folder: str, train: Any, few: Any, dev: Any, batch: int, seed: int) -> tuple[float, float]:
    """The same of the example's loop."""
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler, set_seed

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)

    def rows(table: Any) -> list[tuple[dict[str, Any], int]]:
        coded = tokenizer(table.columns["text"], truncation=True, max_length=LENGTH)
        ids = [{k: coded[k][i] for k in coded} for i in range(len(table))]
        return list(zip(ids, map(int, table.columns["label"]), strict=True))

    def collate(some: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
        padded = tokenizer.pad([x for x, _ in some], return_tensors="pt")
        return dict(padded) | {"labels": torch.tensor([y for _, y in some])}

    feed = DataLoader(rows(train), batch_size=batch, shuffle=True, collate_fn=collate)
    names = ("bias", "LayerNorm.weight")
    groups = [[p for n, p in model.named_parameters() if any(x in n for x in names) is off] for off in (True, False)]
    optimiser = torch.optim.AdamW([{"params": g, "weight_decay": 0.0} for g in groups], lr=5e-5)
    schedule = get_scheduler("linear", optimiser, num_warmup_steps=0, num_training_steps=len(feed))
    start = time.perf_counter()
    model.train()
    for one in feed:
        model(**one).loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    spent = time.perf_counter() - start
    model.eval()
    right = 0
    with torch.no_grad():
        for one in DataLoader(rows(dev), batch_size=32, collate_fn=collate):
            right += int((model(**one).logits.argmax(-1) == one["labels"]).sum())
    return spent, right / len(dev)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a directory that both libraries open")
    parser.add_argument("--data", default=os.environ.get("BERTSMITH_DATA"), help="default: $BERTSMITH_DATA")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data is None:
        parser.error("say where the data are: --data FOLDER, or BERTSMITH_DATA")
    if args.one:
        from bertsmith import sets

        given = sets.read("sst2", args.data)
        tables = some(given.train, args.rows), some(given.valid, 50), some(given.valid)
        way, batch = args.one[0].split("_")
        seconds, accuracy = (ours if way == "ours" else peer)(args.model, *tables, int(batch), int(args.one[1]))
        print(json.dumps({"seconds": seconds, "accuracy": accuracy}))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(args.rounds):
        for way in WAYS:
            call = [sys.executable, __file__, args.model, "--data", args.data, "--rows", str(args.rows)]
            env = os.environ | {"GLIBC_TUNABLES": KEEP}
            done = subprocess.run([*call, "--one", way, str(number)], env=env, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{way} failed:\n{done.stderr[-2000:]}")
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(way, found[way][-1], file=sys.stderr, flush=True)
    speed = {way: args.rows / statistics.median(r["seconds"] for r in runs) for way, runs in found.items()}
    write(
        about()
        | {"rows": args.rows, "rounds": args.rounds, "runs": found, "examples_per_s": speed}
        | {
            "ratio_to_the_script": speed["ours_32"] / speed["peer_8"],
            "ratio_at_batch_32": speed["ours_32"] / speed["peer_32"],
        }
        | {"ratio_at_batch_8": speed["ours_8"] / speed["peer_8"]},
        args.out,
    )


if __name__ == "__main__":
    main()
