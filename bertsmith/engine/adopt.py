"""What one encoder adds to the products of another, where it is of low rank: so adapters of a base run in one batch with it.

It is read off the weights, whatever method changed them: W' - W = widen narrow. LoRA is that by its definition (Hu et al. 2021,
arXiv:2106.09685, section 4.1); biases alone are rank 0. Texts of many adapters then share the base's products, as in Punica
(Chen et al. 2023, arXiv:2310.18547), and an adapter costs its two factors.
"""

from dataclasses import dataclass, fields

import numpy as np
from threadpoolctl import threadpool_limits

from bertsmith import native
from bertsmith.engine.plan import NAMES, Layer, Matrix, Norm, Plan, Unsupported, padded

RANK = 128  # of what is added to a product, at the most
MORE = 8  # random directions beyond it (Halko et al., section 4.2)
LOST = 1e-5  # of the new weights' norm, at the most: what two factors do not say


@dataclass(frozen=True)
class Added:
    """widen (narrow x) + bias: narrow [rank, in], widen [out, rank]."""

    narrow: Matrix
    widen: Matrix


def added(ours: Plan, theirs: Plan, lanes: int) -> dict[tuple[int, int], Added]:
    """What `theirs` adds to our products: by (number of a layer, number of one of its four products).

    Raises Unsupported, naming the first thing that differs by anything else.
    """
    if (ours.dim, len(ours.layers)) != (theirs.dim, len(theirs.layers)):
        raise Unsupported("another width or depth than its base")
    for name in ("word", "place", "kind", "norm", "project", "last"):
        if not _same(getattr(ours, name), getattr(theirs, name)):
            raise Unsupported(f"an embedding or a last norm of its own ({name})")
    with threadpool_limits(
        1, "blas"
    ):  # matrices are small: threads that find the processor busy wait a hundred times as long
        return _products(ours, theirs, lanes)


def _products(ours: Plan, theirs: Plan, lanes: int) -> dict[tuple[int, int], Added]:
    found: dict[tuple[int, int], Added] = {}
    for i, (mine, their) in enumerate(zip(ours.layers, theirs.layers, strict=True)):
        for one in fields(Layer):
            old, new = getattr(mine, one.name), getattr(their, one.name)
            if not isinstance(old, Matrix) and not _same(old, new):
                raise Unsupported(f"{one.name} of its own in layer {i}")
        before, after = padded(mine, lanes), padded(their, lanes)
        for product, name in enumerate(NAMES):
            if not _same(before[name], after[name]):
                found[i, product] = _added(before[name], after[name], f"{name} in layer {i}")
    return found


def tell(handle: native.Handle, number: int, kind: int, all_of_it: dict[tuple[int, int], Added]) -> None:
    """Give what an adapter adds to the library's encoder, whose products are of this kind (not native.INT8)."""
    for (layer, product), one in all_of_it.items():
        handle.adapt(number, layer, product, _weights(one.narrow, kind), _weights(one.widen, kind))


def factors(weight_OI: np.ndarray, lost: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(widen [O, R], narrow [R, I]) whose product is the matrix but for a norm of `lost`; None if its rank is above RANK.

    Halko, Martinsson & Tropp 2011, arXiv:0909.4061, algorithms 4.1 and 5.1: the range by random directions, then a small
    singular value decomposition in it.
    """
    draws = np.random.default_rng(0).standard_normal((weight_OI.shape[1], RANK + MORE), np.float32)
    range_OK, _ = np.linalg.qr(weight_OI @ draws)
    left, size, right = np.linalg.svd(range_OK.T @ weight_OI, full_matrices=False)
    rest = np.sqrt(np.cumsum(size[::-1] ** 2)[::-1])  # the norm of what is left without the values from here on
    rank = max(1, int((rest > lost / 2).sum()))
    by = np.sqrt(size[:rank])
    widen_OR, narrow_RI = range_OK @ left[:, :rank] * by, by[:, None] * right[:rank]
    if rank > RANK or np.linalg.norm(weight_OI - widen_OR @ narrow_RI) > lost:
        return None
    return np.ascontiguousarray(widen_OR, np.float32), np.ascontiguousarray(narrow_RI, np.float32)


def _added(before: Matrix, after: Matrix, where: str) -> Added:
    found = factors(after.weight - before.weight, LOST * float(np.linalg.norm(after.weight)))
    if found is None:
        raise Unsupported(f"a change of a rank above {RANK}: {where}")
    widen, narrow = found
    bias = None
    if after.bias is not None or before.bias is not None:
        nothing = np.zeros(len(after.weight), np.float32)
        bias = (nothing if after.bias is None else after.bias) - (nothing if before.bias is None else before.bias)
    return Added(Matrix(narrow), Matrix(widen, bias, after.gated))


def _weights(m: Matrix, kind: int) -> native.LinearWeights:
    """The library copies what it is given."""
    given = (native.address(x) for x in (m.weight, None, m.bias, None))
    return native.LinearWeights(kind, *m.weight.shape, int(m.gated), *given)


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Norm | Matrix) and type(a) is type(b):
        return all(_same(getattr(a, one.name), getattr(b, one.name)) for one in fields(a))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return a is b or (type(a) is type(b) and not isinstance(a, np.ndarray) and a == b)
