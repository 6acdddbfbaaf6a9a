"""What every peer does: encode the same texts when it is told to, and say how long it took. Needs numpy alone.

A peer is a process: `python PEER.py MODEL TEXTS.json SETTING`. It says "ready", then answers each line it is given:
"all" -> seconds for all texts, after a third of them to warm up, since it stood still while others ran; "one" -> seconds of
each of 50 calls with one text; "save PATH" -> writes the vectors as .npy.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

SINGLES = 50


def loop(make: Callable[[str, str], Callable[[Sequence[str]], np.ndarray]]) -> None:
    """make(MODEL, SETTING) gives what turns texts into vectors, normalised, tokenizer included."""
    model, texts_file, setting = sys.argv[1:4]
    with open(texts_file, encoding="utf-8") as file:
        given = json.load(file)
    encode = make(model, setting)
    encode(given["texts"][:50])
    encode([given["one"]])
    print("ready", flush=True)
    for line in sys.stdin:
        what, _, path = line.strip().partition(" ")
        if what == "all":
            encode(given["texts"][::3])
            start = time.perf_counter()
            encode(given["texts"])
            print(time.perf_counter() - start, flush=True)
        elif what == "one":
            took = []
            for _ in range(SINGLES):
                start = time.perf_counter()
                encode([given["one"]])
                took.append(time.perf_counter() - start)
            print(json.dumps(took), flush=True)
        elif what == "save":
            np.save(path, encode(given["texts"]))
            print("saved", flush=True)


def longest(model: str) -> int:
    """Tokens of a text at the most, as the model's folder says to all of them (sentence_bert_config.json); else 512."""
    said = os.path.join(model, "sentence_bert_config.json")
    if not os.path.exists(said):
        return 512
    with open(said, encoding="utf-8") as file:
        return json.load(file)["max_seq_length"]


def batches(lengths: Sequence[int], places: int) -> list[list[int]]:
    """Numbers of texts of like lengths, at most `places` tokens with padding: what the peers are given, at their best."""
    order, found = sorted(range(len(lengths)), key=lambda i: lengths[i]), []
    for i in order:
        if found and (len(found[-1]) + 1) * lengths[i] <= places:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def mean_pooled(states_BTD: np.ndarray, keep_BT: np.ndarray) -> np.ndarray:
    """[B, D], normalised."""
    total_BD = (states_BTD * keep_BT[:, :, None]).sum(1) / keep_BT.sum(1, keepdims=True)
    return total_BD / np.linalg.norm(total_BD, axis=1, keepdims=True)


def padded(codes: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(ids, mask), int64 [B, T]."""
    longest = max(map(len, codes))
    ids, keep = (np.zeros((len(codes), longest), np.int64) for _ in range(2))
    for row, code in enumerate(codes):
        ids[row, : len(code)], keep[row, : len(code)] = code, 1
    return ids, keep
