"""The C functions of training in bf16, and how they are called: see step.cpp."""

import ctypes
import functools
import math
from collections.abc import Sequence
from ctypes import POINTER, Array, Structure, byref, c_float, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertsmith import native

WEIGHTS = ("q", "k", "v", "out", "gate", "up", "down")
TABLES = ("token", "type", "place")
NORMS = ("attention_in", "attention_out", "ffn_in", "ffn_out")


class StepLayer(Structure):
    """Numbers of tokens, widths and rates, and where the arrays are. See step.h."""

    _fields_ = [*((name, c_int32) for name in ("dim", "heads", "kv_heads", "head_dim", "hidden", "gated", "act", "window")),
                ("span", c_int32),
                *((name, c_float) for name in ("scale", "drop_attention", "drop_mixer", "drop_inner", "drop_ffn")),
                ("norm_kind", c_int32 * len(NORMS)), ("norm_eps", c_float * len(NORMS)),
                ("norm_weight", c_void_p * len(NORMS)), ("norm_bias", c_void_p * len(NORMS)),
                ("weight", c_void_p * len(WEIGHTS)), ("bias", c_void_p * len(WEIGHTS)),
                ("cosine", c_void_p), ("sine", c_void_p), ("near", c_void_p)]  # fmt: skip


class StepGradients(Structure):
    _fields_ = [("norm_weight", c_void_p * len(NORMS)), ("norm_bias", c_void_p * len(NORMS)),
                ("weight", c_void_p * len(WEIGHTS)), ("bias", c_void_p * len(WEIGHTS)), ("near", c_void_p)]  # fmt: skip


class StepTexts(Structure):
    _fields_ = [*((name, c_int32) for name in ("tokens", "texts", "given")),
                *((name, c_void_p) for name in ("starts", "where", "asked")), ("key", c_uint64)]  # fmt: skip


class StepWide(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("rows", "inputs", "out", "stride")),
        ("weight", c_void_p),
        ("bias", c_void_p),
    ]


class StepEmbed(Structure):
    _fields_ = [*((name, c_int32) for name in ("tokens", "dim", "norm_kind")), ("rows", c_int32 * len(TABLES)),
                ("norm_eps", c_float), ("drop", c_float), ("key", c_uint64),
                ("table", c_void_p * len(TABLES)), ("index", c_void_p * len(TABLES)),
                ("norm_weight", c_void_p), ("norm_bias", c_void_p)]  # fmt: skip


class StepRows(Structure):
    _fields_ = [("rows", c_int32), ("columns", c_int32), ("stride", c_int32), ("data", c_void_p)]


class StepUpdate(Structure):
    _fields_ = [*((name, c_void_p) for name in ("master", "copy", "gradient", "mean", "square", "flags")), ("numbers", c_int64),
                *((name, c_float) for name in ("lr", "decay", "correction1", "correction2"))]  # fmt: skip


PIECE = 512  # numbers under one flag of an update
BEYOND = 32  # numbers after a row of what is added to scores by distance


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library, if it can train here; it then runs on torch's own threads."""
    lib = native.library()
    if lib is None:
        return None
    lib.bs_step.restype = c_void_p
    if not lib.bs_step():
        return None
    lib.bs_step_bytes.argtypes, lib.bs_step_bytes.restype = [POINTER(StepLayer), POINTER(StepTexts)], c_int64
    given = [POINTER(StepLayer), POINTER(StepTexts), c_void_p, c_void_p, c_void_p]
    lib.bs_step_forward.argtypes = [*given, ctypes.c_int]
    lib.bs_step_backward.argtypes = [*given, POINTER(StepGradients), ctypes.c_int]
    lib.bs_embed_forward.argtypes = [POINTER(StepEmbed), *[c_void_p] * 3, ctypes.c_int]
    lib.bs_embed_backward.argtypes = [
        POINTER(StepEmbed),
        *[c_void_p] * 3,
        POINTER(c_void_p),
        *[c_void_p] * 2,
        ctypes.c_int,
    ]
    lib.bs_wide_forward.argtypes = [POINTER(StepWide), c_void_p, c_void_p, ctypes.c_int]
    lib.bs_wide_backward.argtypes = [POINTER(StepWide), *[c_void_p] * 5, ctypes.c_int]
    lib.bs_entropy_forward.argtypes = [POINTER(StepRows), *[c_void_p] * 3, ctypes.c_int]
    lib.bs_entropy_backward.argtypes = [POINTER(StepRows), c_void_p, c_void_p, c_float, c_void_p, ctypes.c_int]
    lib.bs_update.argtypes = [c_void_p, ctypes.c_int, *[c_float] * 4, ctypes.c_int]
    lib.bs_squares.argtypes, lib.bs_squares.restype = [c_void_p, ctypes.c_int, ctypes.c_int], ctypes.c_double
    lib.bs_step_mask.argtypes = [c_uint64, ctypes.c_int, c_float, c_int64, c_int64, c_void_p]
    lib.bs_step_mask.restype = None
    lib.bs_step_threads.argtypes, lib.bs_step_threads.restype = [c_void_p], None
    lib.bs_step_threads(_parallel())
    return lib


def _parallel() -> int | None:
    """GOMP_parallel of the OpenMP library that torch runs on: a second set of threads would fight with the first."""
    try:
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    return ctypes.cast(found, c_void_p).value


def why_not() -> str:
    """Why layers cannot be trained by the library here; "" if they can."""
    if native.why_not():
        return native.why_not()
    return "" if library() is not None else "the processor has no AVX-512 with BF16"


def forward(layer: StepLayer, texts: StepTexts, x: Tensor, y: Tensor) -> Tensor:
    """Fill y, bf16 like x, at the rows that are wanted of the texts; returns the bytes that `backward` wants."""
    lib = library()
    assert lib is not None
    saved = torch.empty(lib.bs_step_bytes(byref(layer), byref(texts)), dtype=torch.uint8)
    _check(lib.bs_step_forward(byref(layer), byref(texts), x.data_ptr(), y.data_ptr(), saved.data_ptr(), _threads()))
    return saved


def backward(
    layer: StepLayer, texts: StepTexts, saved: Tensor, dy: Tensor, dx: Tensor | None, gradients: StepGradients
) -> None:
    """Fill dx, if it is wanted, and the gradients whose places are given."""
    lib = library()
    assert lib is not None
    to = None if dx is None else dx.data_ptr()
    given = byref(layer), byref(texts), saved.data_ptr(), dy.data_ptr(), to, byref(gradients)
    _check(lib.bs_step_backward(*given, _threads()))


def embed_forward(embed: StepEmbed) -> tuple[Tensor, Tensor, Tensor]:
    """(y, a norm's output before weight and bias, 1 / deviation of its input): bf16 [tokens, D] twice, fp32 [tokens].

    Raises IndexError for a row that a table does not have.
    """
    lib, shape = library(), (embed.tokens, embed.dim)
    assert lib is not None
    y, standard = (torch.empty(shape, dtype=torch.bfloat16) for _ in range(2))
    inverse = torch.empty(embed.tokens)
    if lib.bs_embed_forward(byref(embed), *(t.data_ptr() for t in (y, standard, inverse)), _threads()):
        raise IndexError(lib.bs_error().decode())
    return y, standard, inverse


def embed_backward(
    embed: StepEmbed, standard: Tensor, inverse: Tensor, dy: Tensor, wanted: Sequence[Tensor | None]
) -> None:
    """Fill the gradients that are wanted: of the tables, the norm's weight and its bias."""
    lib = library()
    assert lib is not None
    to = [None if t is None else t.data_ptr() for t in wanted]
    tables = (c_void_p * len(TABLES))(*to[: len(TABLES)])
    given = (t.data_ptr() for t in (standard, inverse, dy))
    _check(lib.bs_embed_backward(byref(embed), *given, tables, *to[len(TABLES) :], _threads()))


def wide_forward(x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """x W' + b, whose rows lie a multiple of 32 numbers apart: what `entropy_forward` and `wide_backward` read best."""
    lib, y_NV = library(), rows_apart(len(x_ND), len(weight_VD))
    assert lib is not None
    _check(lib.bs_wide_forward(byref(_wide(y_NV, weight_VD, bias_V)), x_ND.data_ptr(), y_NV.data_ptr(), _threads()))
    return y_NV


def wide_backward(
    x_ND: Tensor,
    weight_VD: Tensor,
    dy_NV: Tensor,
    dx_ND: Tensor | None,
    dweight_VD: Tensor | None,
    dbias_V: Tensor | None,
) -> None:
    """Fill the gradients that are wanted. dy_NV lies as `wide_forward`'s result does."""
    lib = library()
    assert lib is not None
    to = [None if t is None else t.data_ptr() for t in (dx_ND, dweight_VD, dbias_V)]
    given = byref(_wide(dy_NV, weight_VD, None)), x_ND.data_ptr(), dy_NV.data_ptr()
    _check(lib.bs_wide_backward(*given, *to, _threads()))


def entropy_forward(logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """(log(sum exp) of every row, -log softmax(logits)[target] of every row), fp32 [N]."""
    lib, lse_N, loss_N = library(), torch.empty(len(target_N)), torch.empty(len(target_N))
    assert lib is not None
    to = target_N.data_ptr(), lse_N.data_ptr(), loss_N.data_ptr()
    _check(lib.bs_entropy_forward(byref(_rows(logits_NV)), *to, _threads()))
    return lse_N, loss_N


def entropy_backward(logits_NV: Tensor, target_N: Tensor, lse_N: Tensor, slope: float) -> Tensor:
    """The gradient of `slope` times the sum of the losses by the logits, which lies as they do."""
    lib, made_NV = library(), rows_apart(*logits_NV.shape)
    assert lib is not None
    given = byref(_rows(logits_NV)), target_N.data_ptr(), lse_N.data_ptr(), slope, made_NV.data_ptr()
    _check(lib.bs_entropy_backward(*given, _threads()))
    return made_NV


def norm(tensors: Array[StepUpdate]) -> float:
    """Of all gradients together."""
    lib = library()
    assert lib is not None
    return math.sqrt(lib.bs_squares(tensors, len(tensors), _threads()))


def update(tensors: Array[StepUpdate], betas: tuple[float, float], eps: float, scale: float) -> None:
    """A step of AdamW, with gradients times `scale`."""
    lib = library()
    assert lib is not None
    _check(lib.bs_update(tensors, len(tensors), *betas, eps, scale, _threads()))


def rows_apart(rows: int, columns: int) -> Tensor:
    """bf16 [rows, columns], empty, whose rows lie a multiple of 32 numbers apart."""
    return torch.empty(rows, -(-columns // 32) * 32, dtype=torch.bfloat16)[:, :columns]


def lies_apart(x: Tensor) -> bool:
    """Whether x lies as what `rows_apart` makes."""
    return x.stride() == (-(-x.shape[1] // 32) * 32, 1)


def _wide(y_NV: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> StepWide:
    bias = None if bias_V is None else bias_V.data_ptr()
    return StepWide(len(y_NV), weight_VD.shape[1], len(weight_VD), y_NV.stride(0), weight_VD.data_ptr(), bias)


def _rows(x: Tensor) -> StepRows:
    return StepRows(*x.shape, x.stride(0), x.data_ptr())


def mask(key: int, site: int, rate: float, first: int, groups: int) -> np.ndarray:
    """float32 [16 * groups]: what dropout multiplies with, from group `first` of a site on (see dropout.h)."""
    lib, out = library(), np.zeros(16 * groups, np.float32)
    assert lib is not None
    lib.bs_step_mask(key, site, rate, first, groups, native.address(out))
    return out


def _threads() -> int:
    return torch.get_num_threads()


def _check(failed: int) -> None:
    if failed:
        lib = library()
        raise RuntimeError(f"the compiled training step: {lib.bs_error().decode() if lib else ''}")
