"""Texts into vectors: ours beside every peer that is installed, on the same texts, in turn.

    python benchmarks/encode.py MODEL --texts FILE [--peer openvino=PYTHON] [--peer onnxruntime=PYTHON] [--rounds 5]

MODEL is a directory that all of them open; for OpenVINO and ONNX Runtime it also holds model.onnx
(`python benchmarks/peers/to_onnx.py MODEL MODEL/model.onnx`). FILE has a text a line. Every peer is a process of its own, in an
environment of its own where one is named (see benchmarks/peers/*.txt), with its model loaded; rounds alternate, and medians
are reported: texts per second, tokenizer included, and the time of one text alone. Cosines are to ours at "exact". The share
of the roofline is that of the products of the linear layers to the rate of a large bf16 product, measured in the same run.
"""

import argparse
import itertools
import json
import lzma
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from about import about, write

HERE = Path(__file__).parent / "peers"
# name -> (script, setting, environment)
WAYS = {
    "ours, default": ("ours.py", "default", ""),
    "ours, fast": ("ours.py", "fast", ""),
    "ours, exact": ("ours.py", "exact", ""),
    "sentence-transformers": ("sentence_transformers_peer.py", "fp32", ""),
    "sentence-transformers, bf16": ("sentence_transformers_peer.py", "bf16", ""),
    "OpenVINO, fp32": ("openvino_peer.py", "fp32", "openvino"),
    "OpenVINO, bf16": ("openvino_peer.py", "bf16", "openvino"),
    "OpenVINO, 8-bit weights": ("openvino_peer.py", "int8", "openvino"),
    "OpenVINO, static int8": ("openvino_peer.py", "static", "openvino"),
    "ONNX Runtime, fp32": ("onnxruntime_peer.py", "fp32", "onnxruntime"),
    "ONNX Runtime, dynamic int8": ("onnxruntime_peer.py", "int8", "onnxruntime"),
}


class Peer:
    """A process that has its model loaded and waits."""

    def __init__(self, python: str, script: str, model: str, texts: str, setting: str):
        root = str(Path(__file__).resolve().parent.parent)
        env = os.environ | {"PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}
        self.process = subprocess.Popen(
            [python, str(HERE / script), model, texts, setting],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        self.told("")

    def told(self, what: str) -> str:
        """What it answers; what libraries print on the way is passed over."""
        if what:
            self.process.stdin.write(what + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.strip() == "ready" or what and line[:1] in "[0123456789s":
                return line.strip()
        raise RuntimeError(self.process.stderr.read()[-800:])

    def stop(self) -> None:
        self.process.kill()


def texts_of(path: str, count: int, words: int) -> list[str]:
    """Sentences; or, of a number of words each, pieces of the text as it stands."""
    opened = lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8")
    with opened as file:
        if words:
            every = (word for line in file for word in line.split())
            return [" ".join(itertools.islice(every, words)) for _ in range(count)]
        sentences = (s.strip() for line in file for s in line.split(". "))
        return [s for s, _ in zip((s for s in sentences if 3 < len(s.split()) < 120), range(count), strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", required=True, help="a text file, .xz or not; its sentences are taken")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--words", type=int, default=0, help="texts of so many words instead of sentences")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--only", default="", help="ways whose names hold this; all if not said")
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    pythons = dict(one.split("=", 1) for one in args.peer) | {"": sys.executable}
    import bertsmith
    from bertsmith.doctor import matmul_rate

    model = bertsmith.load(args.model)
    texts = texts_of(args.texts, args.count, args.words)
    codes = model.coder().encode(texts)
    one = min(range(len(texts)), key=lambda i: abs(len(codes[i]) - 32))
    peers: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        given = f"{folder}/texts.json"
        Path(given).write_text(json.dumps({"texts": texts, "one": texts[one]}))
        for name, (script, setting, where) in WAYS.items():
            if args.only and args.only not in name:
                continue
            try:
                peers[name] = Peer(pythons[where], script, args.model, given, setting)
            except (KeyError, RuntimeError) as error:
                missing[name] = (
                    f"not installed: say --peer {where}=PYTHON" if where not in pythons else str(error)[-300:]
                )
                print(f"{name}: {missing[name]}", file=sys.stderr)
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        single: dict[str, list[float]] = {name: [] for name in peers}
        rates: list[float] = []
        for number in range(args.rounds):
            for name, peer in peers.items():
                seconds[name].append(float(peer.told("all")))
                single[name] += json.loads(peer.told("one"))
                print(f"{number} {name}: {len(texts) / seconds[name][-1]:.0f}/s", file=sys.stderr, flush=True)
            matmul_rate.cache_clear()
            rates.append(matmul_rate("bf16"))
        vectors = {}
        for name, peer in peers.items():
            peer.told(f"save {folder}/v.npy")
            vectors[name] = np.load(f"{folder}/v.npy").astype(np.float64)
            peer.stop()
    want = vectors.get("ours, exact", next(iter(vectors.values())))
    flops = (
        2 * sum(m.numel() for n, m in model.encoder.layers.named_parameters() if m.dim() == 2) * sum(map(len, codes))
    )
    table = {}
    for name in peers:
        cosine = (want * vectors[name]).sum(1) / np.linalg.norm(want, axis=1) / np.linalg.norm(vectors[name], axis=1)
        took = statistics.median(seconds[name])
        table[name] = {
            "texts_per_s": len(texts) / took,
            "best": len(texts) / min(seconds[name]),
            "one_text_ms": {f"p{q}": float(np.percentile(single[name], q)) * 1e3 for q in (50, 99)},
            "cosine": {"mean": float(cosine.mean()), "worst": float(cosine.min())}
            | {"worst_1_percent": float(np.quantile(cosine, 0.01))},
            "share_of_bf16_rate": flops / took / statistics.median(rates),
        }  # fmt: skip
    first = table.get("sentence-transformers")
    for row in table.values():
        row["times_sentence_transformers"] = row["texts_per_s"] / first["texts_per_s"] if first else None
    sizes = {
        "texts": len(texts),
        "tokens": sum(map(len, codes)),
        "tokens_of_one": len(codes[one]),
        "rounds": args.rounds,
    }
    write(
        about() | sizes | {"bf16_gflops": statistics.median(rates) / 1e9, "table": table, "missing": missing}, args.out
    )


if __name__ == "__main__":
    main()
