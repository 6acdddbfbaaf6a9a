"""The arithmetic that has a fast form, each beside its eager form and tested equal to it. No other file chooses kernels.

B rows, N heads, T tokens, S tokens read, H head width.
"""

import copy
import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith.draw import draw
from bertsmith.native import step

MANY = 1024  # outputs from which a product is worth a function of its own
SHORT = 384  # up to here, on a CPU, plain products beat SDPA: its blocks are larger than the row

_bits: ContextVar[np.random.Generator | None] = ContextVar("bits", default=None)
_draws: ContextVar[torch.Generator | None] = ContextVar("draws", default=None)
_force: ContextVar[str] = ContextVar("force", default="")
_start: ContextVar[bool] = ContextVar("start", default=True)
_piecewise: ContextVar[bool] = ContextVar("piecewise", default=False)
_recompute: ContextVar[bool] = ContextVar("recompute", default=False)


def attention(
    q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    """softmax(q k' scale + mask) v (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
        mask: None, bool (True: may read) or a float term of the scores; broadcastable to B N T S.
        dropout: the share of attention weights dropped; 0 in evaluation.

    Returns:
        y_BNTH.
    """
    forced = "" if torch.compiler.is_compiling() else _force.get()
    form = forced or choose(q_BNTH.device.type, k_BNSH.shape[2], dropout)
    return FORMS[form](q_BNTH, k_BNSH, v_BNSH, mask, scale, dropout)


def choose(device: str, reads: int, dropout: float) -> str:
    """The form of attention for a device, a number of tokens read and a dropout rate."""
    if torch.compiler.is_exporting():
        return "sdpa"
    if device == "cpu":
        # SDPA on a CPU has no fused dropout
        return "eager" if reads <= SHORT or dropout else "sdpa"
    return "sdpa"


@contextmanager
def forced(form: str) -> Iterator[None]:
    """Use one form of attention inside, for tests and comparisons. Raises ValueError if there is none of that name."""
    if form not in FORMS:
        raise ValueError(f"no kernel {form!r}; there are: {', '.join(FORMS)}")
    token = _force.set(form)
    try:
        yield
    finally:
        _force.reset(token)


def one_function(x: Tensor) -> bool:
    """Whether a layer that is given x in training may run as one function of its own (see `fused`), not piece by piece."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or _piecewise.get():
        return False
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.is_grad_enabled()


@contextmanager
def piecewise() -> Iterator[None]:
    """Layers go through torch piece by piece inside, for tests and comparisons."""
    token = _piecewise.set(True)
    try:
        yield
    finally:
        _piecewise.reset(token)


def recomputes() -> bool:
    """Whether a layer keeps its input alone, and is run again in the backward pass (see `fused/again.py`)."""
    return _recompute.get() and torch.is_grad_enabled()


@contextmanager
def recomputing(on: bool = True) -> Iterator[None]:
    """Layers that run inside are run again in the backward pass: less memory, more time."""
    token = _recompute.set(on)
    try:
        yield
    finally:
        _recompute.reset(token)


def _eager(q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, p: float) -> Tensor:
    score_BNTS = (q_BNTH * scale) @ k_BNSH.transpose(-1, -2)
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros((), dtype=q_BNTH.dtype, device=mask.device).where(mask, -math.inf)
        score_BNTS = score_BNTS + mask
    return dropout(score_BNTS.softmax(-1), p, True) @ v_BNSH


def _sdpa(q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None, scale: float, p: float) -> Tensor:
    return F.scaled_dot_product_attention(q_BNTH, k_BNSH, v_BNSH, mask, p, scale=scale)


FORMS = {"eager": _eager, "sdpa": _sdpa}


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout (Srivastava et al. 2014). Inside `seeded` on a CPU the mask comes from a fast generator.

    torch draws its masks serially on a CPU, which is a quarter of a training step; SFC64 gives 16 bits an element
    at memory speed. The rate is moved by less than 0.2 % so that 1 / (1 - p) is exact in x's precision and the
    expectation stays x.
    """
    if not p or not training:
        return x
    # a compiler traces no context variables; it draws by itself
    rng = None if torch.compiler.is_compiling() else _bits.get()
    if rng is None or x.device.type != "cpu":
        return F.dropout(x, p, True)
    gain = torch.tensor(1 / (1 - p), dtype=x.dtype).item()
    bound = round((1 - 1 / gain) * 2**16) - 2**15
    bits = torch.from_numpy(_draw_int16(rng, x.numel())).view(x.shape)
    # both values in x's precision, or `where` works in fp32
    return x * torch.where(bits < bound, x.new_zeros(()), x.new_full((), gain))


def _draw_int16(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 2**64 - 1, -(-n // 4), dtype=np.uint64, endpoint=True).view(np.int16)[:n]


def logits(h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """h W' + b, where there are many outputs: z_NV. h may have more axes.

    In training in bf16 on a CPU the compiled step makes the product and its gradients.
    """
    many = len(weight_VD) >= MANY and weight_VD.shape[1] % 32 == 0 and weight_VD.dtype == torch.bfloat16
    if not many or not _stepped(h_ND):
        return F.linear(h_ND, weight_VD, bias_V)
    return _Wide.apply(h_ND, weight_VD, bias_V)  # type: ignore[no-any-return]


def _stepped(x: Tensor) -> bool:
    """Whether rows of numbers are for the compiled step."""
    return x.dim() == 2 and len(x) > 0 and one_function(x) and not step.why_not()


class _Wide(torch.autograd.Function):
    """z = h W' + b."""

    @staticmethod
    def forward(ctx: Any, h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:  # type: ignore[override]
        h_ND, weight_VD = h_ND.contiguous(), weight_VD.contiguous()
        ctx.save_for_backward(h_ND, weight_VD, bias_V)
        return step.wide_forward(h_ND, weight_VD, bias_V)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dz_NV: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        h_ND, weight_VD, bias_V = ctx.saved_tensors
        if not step.lies_apart(dz_NV):
            wide = F.pad(dz_NV, (0, -dz_NV.shape[1] % 32))
            dz_NV = wide[:, : dz_NV.shape[1]]
        asked = zip(ctx.needs_input_grad, (h_ND, weight_VD, bias_V), strict=True)
        dh_ND, dweight_VD, dbias_V = (torch.empty_like(x) if needed else None for needed, x in asked)
        step.wide_backward(h_ND, weight_VD, dz_NV, dh_ND, dweight_VD, dbias_V)
        return dh_ND, dweight_VD, dbias_V


def cross_entropy(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """The sum over N of -log softmax(logits)[target], in fp32 from logits of any precision; a scalar.

    Those that `logits` made by the compiled step stay with it: no fp32 copy of them is ever made.
    """
    if _stepped(logits_NV) and logits_NV.shape[-1] >= MANY and step.lies_apart(logits_NV):
        return _CrossEntropy.apply(logits_NV, target_N.contiguous())  # type: ignore[no-any-return]
    if logits_NV.device.type != "cpu" or logits_NV.dtype != torch.bfloat16 or logits_NV.shape[-1] < MANY:
        return F.cross_entropy(logits_NV.float(), target_N, reduction="sum")
    return _BlockedCrossEntropy.apply(logits_NV, target_N)  # type: ignore[no-any-return]


class _CrossEntropy(torch.autograd.Function):
    """d loss / d logits = softmax(logits) - onehot(target), made in the backward pass from log(sum exp) of every row."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor) -> Tensor:  # type: ignore[override]
        lse_N, loss_N = step.entropy_forward(logits_NV, target_N)
        ctx.save_for_backward(logits_NV, target_N, lse_N)
        return loss_N.sum(dtype=torch.float64).float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits_NV, target_N, lse_N = ctx.saved_tensors
        return step.entropy_backward(logits_NV, target_N, lse_N, float(grads[0])), None


class _BlockedCrossEntropy(torch.autograd.Function):
    """The same in torch, block by block, forward and gradient in one visit, so that no fp32 copy of the logits is ever made."""

    ROWS = 64  # a block of 64 x 30k in fp32 stays within the last-level cache

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor) -> Tensor:  # type: ignore[override]
        total, grad_NV = logits_NV.new_zeros((), dtype=torch.float32), torch.empty_like(logits_NV)
        for at in range(0, len(target_N), _BlockedCrossEntropy.ROWS):
            rows = slice(at, at + _BlockedCrossEntropy.ROWS)
            log_p, target_R1 = logits_NV[rows].float().log_softmax(-1), target_N[rows, None]
            total -= log_p.gather(1, target_R1).sum()
            p = log_p.exp_()
            grad_NV[rows] = p.scatter_add_(1, target_R1, torch.full_like(target_R1, -1, dtype=p.dtype))
        ctx.save_for_backward(grad_NV)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (grad_NV,) = ctx.saved_tensors
        return grad_NV * grads[0].to(grad_NV.dtype), None


def keep_memory() -> bool:
    """Tell the C library to keep freed blocks for the next step; True if it could be told (glibc).

    By default it gives every block above 32 MB back to the system, and a step then mostly takes page faults.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
        most = 2**31 - 1
        return all((libc.mallopt(M_MMAP_MAX, 0), libc.mallopt(M_TRIM_THRESHOLD, most), libc.mallopt(M_TOP_PAD, 2**26)))
    except (OSError, AttributeError):
        return False


@contextmanager
def seeded(seed: int, *what: int | str) -> Iterator[None]:
    """Draw dropout, and whatever else uses torch's generator, as a function of `seed` and what the pass is for."""
    torch.default_generator.manual_seed(draw(seed, *what, "torch"))
    if torch.cuda.is_initialized():  # torch.manual_seed notes the whole stack where it is not: a millisecond a step
        torch.cuda.manual_seed_all(draw(seed, *what, "torch"))
    bits = _bits.set(np.random.Generator(np.random.SFC64(draw(seed, *what, "dropout"))))
    draws = _draws.set(torch.Generator().manual_seed(draw(seed, *what, "torch")))
    try:
        yield
    finally:
        _bits.reset(bits)
        _draws.reset(draws)


def drawn() -> Callable[[], AbstractContextManager[None]]:
    """Contexts in which what `seeded` opened draws once more what it will draw from here on."""
    bits, draws = copy.deepcopy(_bits.get()), _draws.get()
    state = None if draws is None else draws.get_state()

    @contextmanager
    def same() -> Iterator[None]:
        tokens = (
            _bits.set(copy.deepcopy(bits)),
            _draws.set(None if state is None else torch.Generator().set_state(state)),
        )
        try:
            yield
        finally:
            _bits.reset(tokens[0])
            _draws.reset(tokens[1])

    return same


@contextmanager
def undrawn() -> Iterator[None]:
    """Layers made here are not given their start, which is drawn slowly: something else fills every one of them next.

    They hold NaN until then, so that a forgotten one shows.
    """
    token = _start.set(False)
    try:
        yield
    finally:
        _start.reset(token)


@torch.no_grad()
def start(weight: Tensor) -> Tensor:
    """Fill a layer's weight with its start: normal, 0.02, cut at two standard deviations (as BERT's)."""
    if not _start.get():
        return weight.fill_(math.nan)
    return torch.nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04, generator=generator())


def key() -> int:
    """64 bits for what makes its own random numbers: a function of what `seeded` opened, else of torch's generator."""
    rng = _bits.get()
    if rng is None:
        return int(torch.randint(2**62, (1,)))
    return int(rng.integers(0, 2**64 - 1, dtype=np.uint64, endpoint=True))


def generator() -> torch.Generator | None:
    """The CPU generator of what `seeded` opened, for what `step` draws: `torch.rand(n, generator=generator())`.

    None, which torch takes for its own, outside. torch's own is one for all threads of a process, so that two models
    trained in two threads would draw from each other's.
    """
    return _draws.get()
