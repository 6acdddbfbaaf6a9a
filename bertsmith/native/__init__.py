"""The compiled encoder: which library there is, what runs here, and how its C functions are called.

Known to `engine` alone, but for `words`, which is for tokenizers. The sources beside this file say how it works:
encoder.cpp first.
"""

import ctypes
import functools
from collections.abc import Iterable, Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int32, c_void_p, pythonapi
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = Path(__file__).parent / "_kernel.so"
ABI = 6  # what the library's functions are given: entry.cpp has the same number
INT8, BF16, FP32 = 0, 1, 2
KINDS = {"int8": INT8, "bf16": BF16, "fp32": FP32}
STATES, MEAN, FIRST, UNIT = 0, 1, 2, 4


class LinearWeights(Structure):
    _fields_ = [("kind", c_int32), ("out", c_int32), ("inputs", c_int32), ("gated", c_int32),
                ("weight", c_void_p), ("scale", c_void_p), ("bias", c_void_p), ("smooth", c_void_p)]  # fmt: skip


class NormWeights(Structure):
    _fields_ = [("kind", c_int32), ("eps", c_float), ("weight", c_void_p), ("bias", c_void_p)]


class EmbeddingWeights(Structure):
    _fields_ = [("width", c_int32), ("vocab", c_int32), ("places", c_int32), ("types", c_int32),
                ("word", c_void_p), ("position", c_void_p), ("type", c_void_p),
                ("norm", NormWeights), ("project", LinearWeights)]  # fmt: skip


class LayerWeights(Structure):
    _fields_ = [("heads", c_int32), ("kv_heads", c_int32), ("head_dim", c_int32), ("window", c_int32),
                ("places", c_int32), ("span", c_int32), ("act", c_int32),
                ("cosine", c_void_p), ("sine", c_void_p), ("bias", c_void_p),
                ("qkv", LinearWeights), ("out", LinearWeights), ("up", LinearWeights), ("down", LinearWeights),
                ("attention_in", NormWeights), ("attention_out", NormWeights),
                ("ffn_in", NormWeights), ("ffn_out", NormWeights)]  # fmt: skip


@dataclass(frozen=True)
class Isa:
    """An instruction set that runs here: its name, floats in a vector, and whether it multiplies bf16."""

    name: str
    lanes: int
    bf16: bool
    handle: int


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library, or None where there is none for this machine (`why_not` says why)."""
    try:
        lib = ctypes.CDLL(str(LIBRARY))
        if lib.bs_abi() != ABI:
            return None
    except (OSError, AttributeError):  # the first libraries had no such number
        return None
    lib.bs_isa.restype = lib.bs_isa_name.restype = c_void_p
    lib.bs_isa_name.restype = lib.bs_error.restype = c_char_p
    lib.bs_isa.argtypes = [ctypes.c_int]
    for name in ("bs_isa_name", "bs_isa_lanes", "bs_isa_bf16"):
        getattr(lib, name).argtypes = [c_void_p]
    lib.bs_new.argtypes = [c_void_p, ctypes.c_int, POINTER(EmbeddingWeights), POINTER(c_void_p)]
    lib.bs_add.argtypes = [c_void_p, POINTER(LayerWeights)]
    lib.bs_finish.argtypes = [c_void_p, POINTER(NormWeights)]
    lib.bs_adapt.argtypes = [c_void_p, *[ctypes.c_int] * 3, POINTER(LinearWeights), POINTER(LinearWeights)]
    integers = [c_void_p] * 4
    lib.bs_run.argtypes = [c_void_p, *integers, ctypes.c_int, ctypes.c_int, ctypes.c_int, c_void_p]
    lib.bs_delete.argtypes = [c_void_p]
    lib.bs_delete.restype = None
    return lib


@functools.cache
def sets() -> tuple[Isa, ...]:
    """The instruction sets that run here, best first; none without a library."""
    if (lib := library()) is None:
        return ()
    found: list[Isa] = []
    while handle := lib.bs_isa(len(found)):
        name = lib.bs_isa_name(handle).decode()
        found.append(Isa(name, lib.bs_isa_lanes(handle), bool(lib.bs_isa_bf16(handle)), handle))
    return tuple(found)


def why_not() -> str:
    """Why the compiled encoder cannot run here; "" if it can."""
    if not LIBRARY.exists():
        return "it was not compiled at installation: python -m bertsmith.native.build says why, or does it now"
    if library() is None:
        return f"{LIBRARY.name} is not for this machine (x86-64, Linux) or not of this code: python -m bertsmith.native.build"
    return "" if sets() else "the processor has no AVX2"


class Handle:
    """An encoder in the library. Arrays that it is given are copied, but for tables by token and by place,
    which `keep` holds on to.

    Raises RuntimeError if the library says that something went wrong.
    """

    def __init__(self, isa: Isa, dim: int, embedding: EmbeddingWeights, keep: Sequence[np.ndarray]):
        self.lib, self.dim, self.keep, self.pointer = library(), dim, list(keep), c_void_p()
        assert self.lib is not None
        check(self.lib.bs_new(isa.handle, dim, byref(embedding), byref(self.pointer)))

    def add(self, layer: LayerWeights) -> None:
        check(self.lib.bs_add(self.pointer, byref(layer)))  # type: ignore[union-attr]

    def finish(self, norm: NormWeights) -> None:
        check(self.lib.bs_finish(self.pointer, byref(norm)))  # type: ignore[union-attr]

    def adapt(self, adapter: int, layer: int, product: int, narrow: LinearWeights, widen: LinearWeights) -> None:
        """From now on texts of this adapter get widen (narrow x) as well, at one of a layer's four products."""
        check(self.lib.bs_adapt(self.pointer, adapter, layer, product, byref(narrow), byref(widen)))  # type: ignore[union-attr]

    def run(
        self,
        ids: np.ndarray,
        starts: np.ndarray,
        threads: int,
        pooling: int = STATES,
        types: np.ndarray | None = None,
        adapters: np.ndarray | None = None,
    ) -> np.ndarray:
        """float32 [tokens, D], or [texts, D] if pooled, each one long with `pooling | UNIT`: of texts one after the other.

        Args:
            ids: int32 [tokens]; types: the same, or None for all 0.
            starts: int32 [texts + 1], where each text begins, and the end.
            adapters: int32 [texts], the number of each text's, -1 for none; None: none has one.

        Raises IndexError for a token or a type that its table does not have, and for a text that is too long.
        """
        rows = len(ids) if pooling == STATES else len(starts) - 1
        out = np.zeros((rows, self.dim), np.float32)
        if len(ids):
            given = (address(ids), address(types), address(starts), address(adapters))
            done = self.lib.bs_run(self.pointer, *given, len(starts) - 1, pooling, threads, address(out))  # type: ignore[union-attr]
            check(done)
        return out

    def __del__(self) -> None:
        if self.lib is not None and self.pointer:
            self.lib.bs_delete(self.pointer)


class Held:
    """What dictionaries hold, and whether they still do: the same things by the same names.

    Args:
        soon: addresses of what else is read after `same`. Memory that is asked for all at once comes many times sooner than
            piece by piece; what lies there by then does not matter.
    """

    def __init__(self, dicts: Sequence[dict[str, Any]], soon: Iterable[int] = ()):
        self.dicts, self.then = dicts, [tuple(d.items()) for d in dicts]
        self.lib = None if library() is None else ctypes.PyDLL(str(LIBRARY))  # while it looks, nobody may change them
        held = [at for items in self.then for at in (*map(id, chain.from_iterable(items)), 0)]
        lines = {at & ~63 for at in (*map(id, dicts), *soon)}
        arrays = [np.array(at, np.uintp) for at in ([*map(id, dicts)], held, sorted(lines))]
        at_dicts, at_held, at_lines = (c_void_p(array.ctypes.data) for array in arrays)
        self.keep, self.given = arrays, (pythonapi.PyDict_Next, at_dicts, len(dicts), at_held, at_lines, len(lines))

    def same(self) -> bool:
        if self.lib is not None:
            return bool(self.lib.bs_held(*self.given))
        pairs = zip(self.dicts, self.then, strict=True)
        return all(len(d) == len(then) and all(d.get(key, d) is x for key, x in then) for d, then in pairs)


def check(failed: int) -> None:
    """Raise RuntimeError with what the library says, if a call of it failed: IndexError for what a table does not have."""
    if failed == 2:
        raise IndexError(library().bs_error().decode())  # type: ignore[union-attr]
    if failed:
        raise RuntimeError(f"the compiled encoder: {library().bs_error().decode()}")  # type: ignore[union-attr]


def address(array: np.ndarray | None) -> int | None:
    """Of an array's first number. The caller keeps the array alive."""
    if array is None:
        return None
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # a third of what the last line takes
    except (TypeError, ValueError):  # nobody may write to it, or it is empty, or has gaps
        return array.ctypes.data
