"""Tiny encoders and batches for tests: every kind of a room in the place where it belongs, made from its `example`."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Spec, find_slot, rooms

VOCAB, DIM, HEADS, DEPTH = 50, 16, 2, 2
LENGTHS = (9, 6, 4)

# Where in the toy encoder a piece of a room stands; the rooms, never the kinds, are listed.
PLACES = {
    "act": ["blocks.*.ffn.act"],
    "block": ["blocks.*"],
    "core": ["blocks.*.mixer.core"],
    "embedding": ["embedding"],
    "encoder": [],
    "ffn": ["blocks.*.ffn"],
    "init": ["init"],
    "mixer": ["blocks.*.mixer"],
    "norm": ["norm", "embedding.norm", "blocks.*.residual.norm"],
    "position": ["embedding.position", "blocks.*.mixer.position"],
    "residual": ["blocks.*.residual"],
}


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[subprocess.Popen]:
    """Another process holds this lock meanwhile."""
    code = "import sys, time\nfrom bertsmith.files import alone\nwith alone(sys.argv[1]): print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        yield other
        other.kill()


@cache
def example(room: str, kind: str) -> Spec:
    """The Spec of a kind with its `example` as required settings."""
    required = vars(find_slot(room).load(kind)).get("example", {})
    return Spec.from_dict({"kind": f"{room}/{kind}"} | copy.deepcopy(required))


def kinds(*wanted: str) -> list[tuple[str, str]]:
    """[(room, kind)] of some rooms, or of all."""
    return [(room, kind) for room in wanted or rooms() for kind in find_slot(room).kinds()]


@cache
def encoder_spec(room: str = "", kind: str = "") -> Spec:
    """The toy encoder, post-norm BERT with token types, with one kind in its place."""
    if room == "encoder":
        return example(room, kind)
    block = {
        "kind": "block/sequential",
        "mixer": {"kind": "mixer/attention", "position": {"kind": "position/none"}},
        "ffn": {"kind": "ffn/mlp", "hidden": 24},
        "residual": {"kind": "residual/post", "norm": {"kind": "norm/layer"}},
    }
    embedding = {
        "kind": "embedding/tokens",
        "vocab": VOCAB,
        "types": 2,
        "position": {"kind": "position/learned", "length": 64},
        "norm": {"kind": "norm/layer"},
    }
    spec = Spec.from_dict(
        {"kind": "encoder/stack", "dim": DIM, "heads": HEADS, "depth": DEPTH, "embedding": embedding}
        | {"blocks": [block], "norm": {"kind": "norm/layer"}}
    )
    for path in places(room, kind):
        spec = spec.replace(path, example(room, kind))
    return spec


def places(room: str, kind: str) -> list[str]:
    """Where in the toy encoder a kind stands; a position stands where it is asked for what it changes."""
    if room != "position":
        return PLACES.get(room, [])
    method, base = find_slot(room).load(kind), find_slot(room).base
    adds, turns = method.add is not base.add, (method.rotate, method.score) != (base.rotate, base.score)
    return [path for path, used in zip(PLACES[room], (adds, turns), strict=True) if used or not (adds or turns)]


def build(spec: Spec, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, awake."""
    torch.manual_seed(seed)
    return wake(spec.build().eval())


def wake(model: nn.Module, only: str = "", seed: int = 1) -> nn.Module:
    """Large random weights (in parameters whose name contains `only`), so that nothing is equal because it is small."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if only in name:
                noise = torch.randn(p.shape, generator=rng).to(p)
                p.copy_(0.3 * noise) if p.dim() > 1 else p.add_(0.1 * noise)
    return model


def documents(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[Tensor]:
    """Random tokens, none of them special; the first of each is 2, [CLS]."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.cat([torch.tensor([2]), torch.randint(5, VOCAB, (n - 1,), generator=rng)]) for n in lengths]


def types(document: Tensor) -> Tensor:
    """Token types: 0 in the first half, 1 in the second."""
    return (torch.arange(len(document)) >= len(document) // 2).long()


def padded(docs: list[Tensor], width: int = 0) -> tuple[Tensor, Layout]:
    """One document a row."""
    width = max(width, *map(len, docs))
    grid = lambda rows: torch.stack([nn.functional.pad(r, (0, width - len(r))) for r in rows])  # noqa: E731
    return grid(docs), Layout.padded(grid([torch.ones_like(d) for d in docs]), grid([types(d) for d in docs]))


def packed(docs: list[Tensor], rows: list[list[int]], width: int) -> tuple[Tensor, Layout]:
    """Several documents a row, `rows` giving their numbers; the rest of a row is padding."""
    token, segment, position, kind = (torch.zeros(len(rows), width, dtype=torch.int64) for _ in range(4))
    for b, row in enumerate(rows):
        at = 0
        for n, i in enumerate(row, 1):
            here = slice(at, at + len(docs[i]))
            token[b, here], segment[b, here], kind[b, here] = docs[i], n, types(docs[i])
            position[b, here] = torch.arange(len(docs[i]))
            at += len(docs[i])
    return token, Layout.of(segment, position, kind)


def facts(token_BT: Tensor) -> dict[str, Tensor]:
    """What a task may say of tokens for some heads (`Layout.extra`), here made of the tokens."""
    return {"characters": token_BT[..., None] * torch.tensor([1, 3, 5]) % 7}


def both() -> tuple[tuple[Tensor, Layout], tuple[Tensor, Layout]]:
    """The same three documents padded, and packed into two rows with padding."""
    docs = documents()
    pad, pack = padded(docs), packed(docs, [[0, 1], [2]], 16)
    for token_BT, layout in (pad, pack):
        layout.extra.update(facts(token_BT))
    return pad, pack


def states(x_BTD: Tensor, layout: Layout) -> Tensor:
    """The states of all real tokens, document after document: equal for padded and packed."""
    return x_BTD[layout.real_BT]


def language(rows: int, seed: int, width: int = 12) -> dict:
    """A batch of a toy language, in which a sentence is one word again and again: what objectives and tasks can learn.

    "next" (1: the second half is of another word) and "target" (whether the word is of the upper half) come with it.
    """
    rng = np.random.default_rng(seed)
    start, jump = rng.integers(0, VOCAB - 5, rows), rng.integers(0, 2, rows)
    word = start[:, None] + 7 * jump[:, None] * (np.arange(width - 1) >= width // 2)
    token = np.concatenate([np.full((rows, 1), 2), 5 + word % (VOCAB - 5)], 1)
    keep, kind = (
        torch.ones(rows, width),
        torch.from_numpy(np.tile(np.arange(width) > width // 2, (rows, 1)).astype(int)),
    )
    layout = Layout.padded(keep, kind)
    target = torch.from_numpy((start >= (VOCAB - 5) // 2).astype(int))
    return {"token": torch.from_numpy(token), "layout": layout, "next": torch.from_numpy(jump), "target": target}


def corrupted(objective: nn.Module, batch: dict, seed: int) -> dict:
    """The batch as the loader would hand it over."""
    rngs = [np.random.default_rng([seed, row]) for row in range(len(batch["token"]))]
    return objective.corruption()(batch, rngs)
