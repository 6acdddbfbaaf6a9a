"""Texts for many adapters of one model: in one batch, and each adapter as a model of its own.

    python benchmarks/adapters.py MODEL --texts FILE [--adapters 16] [--rank 8] [--rounds 5] [--out results.json]

Adapters are LoRA on queries and values, with random factors. A batch holds `--each` texts for every adapter; the two ways
alternate, and medians are told: texts a second, and the memory that the adapters take once they are in use. The worst cosine
between the two ways' vectors is told too.
"""

import argparse
import copy
import ctypes
import gc
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from about import about, write
from encode import texts_of

import bertsmith
from bertsmith.edit import edit as edits
from bertsmith.engine import Engine, Texts
from bertsmith.engine.guest import Guest
from bertsmith.linear import edit
from bertsmith.model import Model


def resident() -> int:
    """Bytes of memory that this process has, without what it could give back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def adapted(model: Model, probes: Texts, rank: int, seed: int) -> Engine:
    """The engine of the model with a LoRA of random factors; weights that it leaves alone are shared."""
    encoder = copy.deepcopy(model.encoder, {id(p): p for p in model.encoder.parameters()})
    edit(encoder, "**.mixer.[qv]", edits("lora", rank=rank))
    generator = torch.Generator().manual_seed(seed)
    for name, p in encoder.named_parameters():
        if ".edits." in name:
            p.data = 0.02 * torch.randn(p.shape, generator=generator)
    return Engine(encoder.eval(), model.max_length, probes, list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a directory that bertsmith.load opens")
    parser.add_argument("--texts", required=True, help="a text file, .xz or not; its sentences are taken")
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--each", type=int, default=1, help="texts of a batch for each adapter")
    parser.add_argument("--tokens", type=int, default=32, help="of a text, at the most")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    model = bertsmith.load(args.model)
    batch = args.adapters * args.each
    codes = [code.ids for code in model.coder(args.tokens).encode(texts_of(args.texts, batch * args.batches, 0))]
    sets = [codes[i : i + batch] for i in range(0, len(codes) - batch + 1, batch)]
    probes = lambda: codes[:24]  # noqa: E731

    def packed(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(texts).astype(np.int32), np.cumsum([0, *map(len, texts)]).astype(np.int32)

    host = Engine(model.encoder, model.max_length, probes, list)
    host.pooled(*packed(sets[0]), "mean")
    before = resident()
    guests = [Guest(adapted(model, probes, args.rank, n), host, "default") for n in range(args.adapters)]
    together = resident() - before
    before = resident()
    alone = [Engine(guest.encoder, model.max_length, probes, list) for guest in guests]
    for engine in alone:
        engine.pooled(*packed(sets[0][:1]), "mean")
    apart = resident() - before
    whose = np.repeat([guest.number for guest in guests], args.each).astype(np.int32)

    def at_once(texts: list[list[int]]) -> np.ndarray:
        return host.pooled(*packed(texts), "mean", adopted=whose)

    def one_by_one(texts: list[list[int]]) -> np.ndarray:
        parts = [texts[n * args.each : (n + 1) * args.each] for n in range(args.adapters)]
        return np.concatenate([engine.pooled(*packed(part), "mean") for engine, part in zip(alone, parts, strict=True)])

    ways, seconds, found = {"one batch": at_once, "apart": one_by_one}, {}, {}
    for _ in range(args.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = np.concatenate([way(texts) for texts in sets])
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    a, b = found.values()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    rates = {name: batch * len(sets) / statistics.median(times) for name, times in seconds.items()}
    write(
        about()
        | {"adapters": args.adapters, "texts_for_each": args.each, "rank": args.rank, "rounds": args.rounds}
        | {"tokens_per_text": float(np.mean([len(c) for c in codes])), "texts_per_s": rates}
        | {"times_as_fast": rates["one batch"] / rates["apart"], "worst_cosine": float(cosine.min())}
        | {"mb_per_adapter": {"one batch": together / args.adapters / 1e6, "apart": apart / args.adapters / 1e6}},
        args.out,
    )


if __name__ == "__main__":
    main()
