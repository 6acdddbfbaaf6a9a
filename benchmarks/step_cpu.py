"""Our compiled training step beside our own torch path: by shape, by number of threads, and where its time goes.

    python benchmarks/step_cpu.py [--shapes 4x256 12x384 modernbert] [--steps 5] [--out results.json]

Masked LM on 4,096 real tokens a step, dropout as the recipe has it, bf16 with fp32 masters, AdamW; the two alternate in one
process, medians. ModernBERT's shape is its base model with rows of 512 tokens; BERT's have rows of 128.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from about import about, write
from pretrain_cpu import SHAPES, flops_made, ours
from torch.profiler import ProfilerActivity, profile

from bertsmith import kernels
from bertsmith.doctor import matmul_rate, threads
from bertsmith.draw import numpy_rng
from bertsmith.hf.bert import bert_encoder
from bertsmith.layout import Layout
from bertsmith.learner import build
from bertsmith.masking import masking
from bertsmith.objective import objective
from bertsmith.recipes.modern import modernbert_encoder
from bertsmith.spec import Spec

TOKENS = 4096
FUNCTIONS = {
    "layers": ("_Layer", "_LayerBackward"),
    "the product with the vocabulary": ("_Wide", "_WideBackward"),
    "cross-entropy": ("_CrossEntropy", "_CrossEntropyBackward"),
}


def described(shape: str) -> tuple[Spec, int, int]:
    """(spec, its vocabulary, tokens of a row)."""
    if shape == "modernbert":
        return modernbert_encoder(22, 768, 12, 1152, vocab=50368, attention_dropout=0.1), 50368, 512
    return bert_encoder(*SHAPES[shape]), SHAPES[shape][3], 128


def batch_of(corrupt, vocab: int, length: int, number: int) -> dict:
    """Rows full of made-up words (Zipf), some of which are asked."""
    rows = TOKENS // length
    token = np.minimum(np.random.default_rng(number).zipf(1.2, (rows, length)) + 4, vocab - 1)
    made = {"token": torch.from_numpy(token), "layout": Layout.padded(torch.ones(rows, length), whole=True)}
    return corrupt(made, [numpy_rng(0, number, r) for r in range(rows)])


def timed(step, batch) -> float:
    start = time.perf_counter()
    step(batch)
    return time.perf_counter() - start


def shares(step, batch) -> dict[str, float]:
    """Of the time of a step, by part."""
    for _ in range(2):  # the profiler's own beginning is in the first
        with profile(activities=[ProfilerActivity.CPU]) as found:
            whole = timed(step, batch) * 1e6
    spent = {e.key: e.cpu_time_total for e in found.key_averages()}
    parts = {name: sum(spent.get(key, 0.0) for key in keys) for name, keys in FUNCTIONS.items()}
    inside = sum(parts.values())
    between = sum(spent.get(name, 0.0) for name in ("forward", "backward")) - inside
    parts |= {"the rest of both passes": between, "clipping": spent.get("clip", 0.0)}
    parts["AdamW"] = whole - inside - between - parts["clipping"]
    return {name: time_of / whole for name, time_of in parts.items()}


def measure(shape: str, steps: int) -> dict:
    spec, vocab, length = described(shape)
    most = threads()
    torch.set_num_threads(most)
    step, corrupt = ours(spec, "bf16")
    times: dict[str, list[float]] = {"compiled": [], "torch": []}
    for i in range(steps + 1):
        batch = batch_of(corrupt, vocab, length, i)
        times["compiled"].append(timed(step, batch))
        with kernels.piecewise():
            times["torch"].append(timed(step, batch))
    rate = {name: TOKENS / statistics.median(took[1:]) for name, took in times.items()}
    where = shares(step, batch)
    by_threads = {}
    for count in sorted({1, 2, most}):
        torch.set_num_threads(count)
        by_threads[count] = TOKENS / statistics.median([timed(step, batch) for _ in range(steps)])
    torch.set_num_threads(most)
    learner = build(spec, [], objective("masked_lm", masking=masking("bert")), 0)
    flops, peak = flops_made(learner.encoder, learner.objective, batch) / TOKENS, matmul_rate("bf16")
    return {
        "tokens_per_s": rate,
        "ratio": rate["compiled"] / rate["torch"],
        "tokens_per_s_by_threads": by_threads,
        "share_of_matmul_rate": rate["compiled"] * flops / peak,
        "matmul_flops_per_s": peak,
        "where_the_time_goes": where,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["4x256", "12x384", "modernbert"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    result = about() | {"seed": 0, "steps": args.steps, "tokens_of_a_step": TOKENS}
    write(result | {"shapes": {shape: measure(shape, args.steps) for shape in args.shapes}}, args.out)


if __name__ == "__main__":
    main()
