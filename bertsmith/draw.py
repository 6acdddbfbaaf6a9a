"""Randomness is a function, not a state: every draw is made from a number that `draw` computes from what it is for.

There is no generator to save: a run that goes on, at any world size, draws what it would have drawn.
"""

import hashlib

import numpy as np


def draw(seed: int, *what: int | str) -> int:
    """A number in [0, 2^63) that depends on `seed` and on what it is for, and on nothing else."""
    key = "/".join(map(str, (seed, *what))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def numpy_rng(seed: int, *what: int | str) -> np.random.Generator:
    """A counter-based generator for one draw (Philox; Salmon et al. 2011)."""
    return np.random.Generator(np.random.Philox(key=draw(seed, *what)))
