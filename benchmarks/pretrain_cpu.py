"""Our pre-training step beside `transformers` BertForMaskedLM with AdamW as its example script runs it.

    python benchmarks/pretrain_cpu.py --shape 4x256 [--steps 12] [--data FILE] [--out results.json]

The peer trains in fp32 with logits everywhere. Same shape, same text, same batch (32 full rows of 128 real tokens),
same number of asked positions, dropout 0.1 on both sides, one process a setting, the two alternating, medians. The peer
runs twice: as shipped, and with the C library told to keep its memory (GLIBC_TUNABLES), its best; the claim is against
its best.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from about import about, write

SHAPES = {"4x256": (4, 256, 4, 30522), "12x384": (12, 384, 6, 16384)}
B, T = 32, 128
KEEP = "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=8589934592:glibc.malloc.mmap_threshold=8589934592"


def rows(data: str, vocab: int):
    """int64 [N, T]: words of a text numbered by frequency, cut into rows; made-up words (Zipf) without a text."""
    import numpy as np

    if not data:
        return np.minimum(np.random.default_rng(0).zipf(1.2, (256, T)) + 4, vocab - 1)
    from collections import Counter

    words = Path(data).read_text(encoding="utf8").split()
    number = {w: i + 5 for i, (w, _) in enumerate(Counter(words).most_common(vocab - 6))}
    ids = np.array([number.get(w, 1) for w in words])
    return ids[: len(ids) // T * T].reshape(-1, T)


def ours(spec, precision):
    """(step(batch), what corrupts a batch): the loop's own pieces, in the loop's order. A profiler sees their names."""
    from torch.profiler import record_function as part

    from bertsmith import kernels
    from bertsmith.learner import Masters, build
    from bertsmith.masking import masking
    from bertsmith.objective import objective
    from bertsmith.optim import optim

    learner = build(spec, [], objective("masked_lm", masking=masking("bert")), 0).train()
    masters = Masters(learner, precision)
    names = list(masters.fp32)
    optimiser = optim("adamw", lr=1e-4).build(masters.fp32)
    if precision == "bf16":
        optimiser.pair(masters.live)
    count = 0

    def gradients(batch):
        with kernels.seeded(0, count):
            with part("forward"):
                loss = learner.objective(learner.encoder, batch)["loss"]
            with part("backward"):
                loss.backward()
        with part("clip"):
            masters.clip(names, 1.0, optimiser, lambda gradients: None)
        return float(loss.detach())

    def step(batch):
        nonlocal count
        count += 1
        loss = optimiser.step(lambda: gradients(batch), 1.0)
        masters.write(names, optimiser)
        return loss

    return step, learner.objective.corruption()


def peer(shape):
    """step(batch): transformers, fp32, torch.optim.AdamW."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    depth, dim, heads, vocab = shape
    model = BertForMaskedLM(BertConfig(vocab_size=vocab, hidden_size=dim, num_hidden_layers=depth,
                                       num_attention_heads=heads, intermediate_size=4 * dim)).train()  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch):
        label = torch.full((B * T,), -100)
        label[batch["asked"]] = batch["answer"]
        optimiser.zero_grad()
        loss = model(
            input_ids=batch["token"], attention_mask=torch.ones_like(batch["token"]), labels=label.view(B, T)
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return float(loss.detach())

    return step


def flops_made(encoder, objective, batch) -> float:
    """Those of a step, less what the last layer leaves out: it gives the asked tokens alone, though it reads all of them."""
    from bertsmith.cost import step_flops
    from bertsmith.linear import Linear

    (rows, length), last = batch["token"].shape, encoder.layers[-1]
    left = rows * length - batch["asked"].numel()
    after = last.mixer.out.weight.numel() + sum(m.weight.numel() for m in last.ffn.modules() if isinstance(m, Linear))
    return step_flops(encoder, objective, batch) - 6.0 * left * after - 12.0 * encoder.dim * left * length


def measure(shape_name: str, steps: int, data: str) -> dict:
    """Tokens/s of both, alternating, medians."""
    import numpy as np
    import torch

    from bertsmith.doctor import choose_precision, matmul_rate, threads
    from bertsmith.draw import numpy_rng
    from bertsmith.hf.bert import bert_encoder
    from bertsmith.layout import Layout
    from bertsmith.learner import build
    from bertsmith.masking import masking
    from bertsmith.objective import objective

    torch.set_num_threads(threads())
    torch.manual_seed(0)
    shape, precision = SHAPES[shape_name], choose_precision()
    mine, corrupt = ours(bert_encoder(*shape), precision)
    theirs, text = peer(shape), rows(data, shape[3])
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for i in range(steps):
        token_BT = torch.from_numpy(np.ascontiguousarray(text[np.arange(i * B, i * B + B) % len(text)]))
        batch = {"token": token_BT, "layout": Layout.padded(torch.ones(B, T), whole=True)}
        batch = corrupt(batch, [numpy_rng(0, i, r) for r in range(B)])
        for name, step in (("ours", mine), ("peer", theirs)):
            start = time.perf_counter()
            step(batch)
            times[name].append(time.perf_counter() - start)
    rate = {k: B * T / statistics.median(v[2:]) for k, v in times.items()}
    learner = build(bert_encoder(*shape), [], objective("masked_lm", masking=masking("bert")), 0)
    flops, peak = flops_made(learner.encoder, learner.objective, batch) / (B * T), matmul_rate(precision)
    return {"tokens_per_s": rate, "precision": precision, "flops_per_token": flops, "matmul_flops_per_s": peak,
            "share_of_matmul_rate": rate["ours"] * flops / peak, "roofline_tokens_per_s": peak / flops}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="4x256")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--data", default="")
    parser.add_argument("--out", default="")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(measure(args.shape, args.steps, args.data)))
        return
    result: dict = about() | {"shape": args.shape, "batch": [B, T], "seed": 0, "steps": args.steps}
    for name, tunables in (("as_shipped", ""), ("allocator_kept", KEEP)):
        env = os.environ | ({"GLIBC_TUNABLES": tunables} if tunables else {})
        call = [
            sys.executable,
            __file__,
            "--inner",
            "--shape",
            args.shape,
            "--steps",
            str(args.steps),
            "--data",
            args.data,
        ]
        done = subprocess.run(call, env=env, capture_output=True, text=True, check=True)
        result[name] = json.loads(done.stdout.splitlines()[-1])
    best_peer = max(result[n]["tokens_per_s"]["peer"] for n in ("as_shipped", "allocator_kept"))
    result["ratio_to_peer_at_its_best"] = result["allocator_kept"]["tokens_per_s"]["ours"] / best_peer
    result["ratio_as_shipped"] = (
        result["as_shipped"]["tokens_per_s"]["ours"] / result["as_shipped"]["tokens_per_s"]["peer"]
    )
    write(result, args.out)


if __name__ == "__main__":
    main()
