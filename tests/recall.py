"""Facts to be remembered: a row says one of FACTS somewhere in its first segment and asks for it with its last token.

Run as a program, it reads documents of the lengths given with a tiny encoder, as a stream or whole, and prints as JSON how much
memory the process has held at most after each.
"""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.layout import Layout
from bertsmith.spec import Spec

FACTS, VOCAB, DIM, ASK = 4, 30, 32, 2
STATUS = Path("/proc/self/status")


def inner(position: str = "learned", depth: int = 2) -> dict:
    """A tiny post-norm stack."""
    near = {"kind": "position/transformer_xl"} if position == "transformer_xl" else {"kind": "position/none"}
    added = {"kind": "position/learned", "length": 160} if position == "learned" else {"kind": "position/none"}
    ln = {"kind": "norm/layer"}
    block = {
        "kind": "block/sequential",
        "mixer": {"kind": "mixer/attention", "position": near},
        "ffn": {"kind": "ffn/mlp", "hidden": 2 * DIM},
        "residual": {"kind": "residual/post", "norm": ln},
    }
    embedding = {"kind": "embedding/tokens", "vocab": VOCAB, "types": 2, "position": added, "norm": ln}
    spec = {"kind": "encoder/stack", "dim": DIM, "heads": 4, "depth": depth, "embedding": embedding}
    return spec | {"blocks": [block], "norm": {"kind": "norm/none"}}


def with_memory(length: int, memory: int = 2, through: int = 0) -> Spec:
    plain = {"kind": "encoder/memory", "inner": inner(), "length": length, "memory": memory, "through": through}
    return Spec.from_dict(plain)


def with_past(length: int, cache: int, depth: int = 2, position: str = "transformer_xl") -> Spec:
    plain = {"kind": "encoder/recurrent", "inner": inner(position, depth), "length": length, "cache": cache}
    return Spec.from_dict(plain)


def rows(count: int, length: int, segments: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(token, which fact)."""
    token = torch.randint(10, VOCAB, (count, length * segments), generator=rng)
    fact = torch.randint(0, FACTS, (count,), generator=rng)
    token[torch.arange(count), torch.randint(0, length - 1, (count,), generator=rng)] = 5 + fact
    token[:, -1] = ASK
    return token, fact


def answer(encoder: nn.Module, head: nn.Module, token: Tensor) -> Tensor:
    return head(encoder(token, Layout.padded(torch.ones_like(token)))[:, -1])


def trained(spec: Spec, length: int, steps: int, most: int) -> tuple[nn.Module, nn.Module, torch.Generator]:
    """An encoder and its head after so many steps on 1 to `most` segments, by and by more of them."""
    torch.manual_seed(0)
    encoder, head, rng = spec.build(), nn.Linear(DIM, FACTS), torch.Generator().manual_seed(0)
    for p in encoder.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, 0, 0.1)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3)
    for step in range(steps):
        drawn = int(torch.randint(1, most + 1, (1,), generator=rng))
        segments = 1 + min(most - 1, step * (most + 1) // steps) if step % 2 else drawn
        token, fact = rows(32, length, segments, rng)
        F.cross_entropy(answer(encoder, head, token), fact).backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return encoder.eval(), head, rng


def noise(length: int) -> Iterator[int]:
    """A document that nobody holds: its tokens are made as they are read."""
    rng = torch.Generator().manual_seed(length)
    for at in range(0, length, 1024):
        yield from torch.randint(10, VOCAB, (min(1024, length - at),), generator=rng).tolist()


def peak() -> int:
    """The most bytes that this process has held."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts what the parent held at the fork into ru_maxrss
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


def main(how: str, *sizes: int) -> None:
    torch.set_num_threads(1)
    encoder, out = with_memory(128).build().eval(), []
    for size in sizes:
        if how == "stream":
            count = sum(len(states) for states in encoder.stream(noise(size)))
        else:
            token = torch.tensor([list(noise(size))])
            with torch.no_grad():
                count = encoder(token, Layout.padded(torch.ones_like(token))).shape[1]
        out.append({"tokens": count, "peak": peak()})
    print(json.dumps(out))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
