"""A random order of n things that is computed, not stored."""

import numpy as np

from bertsmith.draw import draw

ROUNDS = 4


def shuffled(at_N: np.ndarray, n: int, seed: int, *what: int | str) -> np.ndarray:
    """The at-th things, int64 in [0, n), of a pseudo-random order of 0..n-1 that is a function of (seed, what).

    A Feistel network over the smallest even number of bits that holds n (a permutation of [0, 4^k)), walked along its
    cycles until it lands below n (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). Memory: that of
    `at_N`.
    """
    half = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(draw(seed, *what, "round", i)) for i in range(ROUNDS)]
    out_N = np.asarray(at_N, np.uint64).copy()
    if out_N.size and (int(out_N.max()) >= n or n < 1):
        raise IndexError(f"no place {int(out_N.max())} in an order of {n}")
    walking = np.arange(out_N.size)
    while walking.size:
        left, right = out_N[walking] >> half, out_N[walking] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        out_N[walking] = (left << half) | right
        walking = walking[out_N[walking] >= n]
    return out_N.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014): every bit of x reaches every bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
