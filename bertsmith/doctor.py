"""What this machine has, how fast it multiplies, and what bertsmith will therefore use.

`threads` and `choose_precision` decide; they read facts only and measure nothing, so that a run on the same machine
always gets the same answer. `matmul_rate` measures; `facts` gathers all of it for `bertsmith doctor`.
"""

import functools
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from bertsmith import kernels, native
from bertsmith.native import step

Precision = Literal["bf16", "fp32"]

# Instructions that decide something here: which products the processor does in one go.
ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
# Instructions of a processor that multiply bf16 faster than fp32. Without one, torch computes bf16 the slow way round.
FAST_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
# glibc gives large blocks back to the system at every step, and then takes page faults to get them again.
MALLOC = {"hugetlb": 1, "trim_threshold": 1 << 33, "mmap_threshold": 1 << 33}
TUNABLES = "GLIBC_TUNABLES=" + ":".join(f"glibc.malloc.{name}={value}" for name, value in MALLOC.items())


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """The processor's name and those of its instruction sets that `ISA` lists."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags.update(value.split())
    return name, frozenset(flags & set(ISA))


def threads() -> int:
    """Cores that this process may use, and so threads that torch should have.

    The least of: physical cores that the process is allowed to run on, and what its control group pays for. The
    environment variable OMP_NUM_THREADS, where it is set to a whole number, is taken as it is.
    """
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if said.isdigit() and int(said) > 0:
        return int(said)
    allowed = os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), math.ceil(_cgroup_cpus())))


def _siblings(cpu: int) -> str:
    """What names the physical core of a logical processor."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_folders() -> list[Path]:
    """The folders of this process's control group (version 2) and those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    inner = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    path = Path("/sys/fs/cgroup") / inner.lstrip("/")
    return [path, *(p for p in path.parents if p.is_relative_to("/sys/fs/cgroup"))]


def _cgroup_least(name: str, read: Callable[[list[str]], float]) -> float:
    """The least of what a file says in this control group and those above it; infinite where nothing limits."""
    least = math.inf
    for folder in _cgroup_folders():
        try:
            least = min(least, read((folder / name).read_text().split()))
        except (OSError, ValueError, IndexError):
            continue
    return least


def _cgroup_cpus() -> float:
    limit = _cgroup_least("cpu.max", lambda words: math.inf if words[0] == "max" else int(words[0]) / int(words[1]))
    try:  # version 1
        quota = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return min(limit, os.cpu_count() or 1)
    return min(limit, quota / period if quota > 0 else math.inf, os.cpu_count() or 1)


def memory() -> int:
    """Bytes of memory that this process may use."""
    limit = _cgroup_least("memory.max", lambda words: math.inf if words[0] == "max" else int(words[0]))
    return int(min(limit, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))


@functools.cache
def choose_precision() -> Precision:
    """bf16 where a GPU or the processor multiplies it in hardware, else fp32. What is stored is always fp32."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if any(flag in processor()[1] for flag in FAST_BF16) else "fp32"


@functools.lru_cache(maxsize=8)
def matmul_rate(precision: Precision, seconds: float = 0.4) -> float:
    """Measured floating-point operations per second, in FLOP/s, of a product of two square matrices.

    Measured once in a process, with the threads that torch has then, on the GPU if there is one.

    Args:
        precision: "bf16" or "fp32".
        seconds: how long to measure, at least; the fastest product counts.
    """
    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if precision not in kinds:
        raise ValueError(f"no precision {precision!r}; there are: {', '.join(kinds)}")
    gpu = torch.cuda.is_available()
    size = 4096 if gpu else 1024
    left = torch.ones(size, size, dtype=kinds[precision], device="cuda" if gpu else "cpu")
    right, out = left.clone(), torch.empty_like(left)
    fastest, begun, done = math.inf, time.perf_counter(), 0
    # A processor that computes bf16 the slow way round needs a second for one product: stop then, whatever was asked.
    while done < 3 or (time.perf_counter() - begun < seconds):
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        if gpu:
            torch.cuda.synchronize()
        fastest, done = min(fastest, time.perf_counter() - start), done + 1
        if time.perf_counter() - begun > 1.0:
            break
    return 2 * size**3 / fastest


def _kernels() -> dict[str, str]:
    """Every form of attention, and why it is or is not used."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    said = {form: "available" for form in kernels.FORMS}
    for form in kernels.FORMS:
        used = [str(reads) for reads in (128, 512, 2048) if kernels.choose(device, reads, 0.0) == form]
        if used:
            said[form] = f"used at {', '.join(used)} tokens without dropout"
    return said


def _inference() -> str:
    """What runs encoders in evaluation."""
    if why := native.why_not():
        return f"torch, several times slower than the compiled encoder: {why}"
    best = native.sets()[0]
    return f"the compiled encoder, {best.name}, in {'bf16' if best.bf16 else 'fp32'} (precision=fast: 8 bits)"


def _training() -> str:
    """What trains layers in bf16 on the CPU."""
    if why := step.why_not():
        return f"torch: {why}"
    return "the compiled step, for layers that it knows (a run's log says which)"


def _allocator() -> str:
    preload, tunables = os.environ.get("LD_PRELOAD", ""), os.environ.get("GLIBC_TUNABLES", "")
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if name in preload:
            return f"{name} (preloaded)"
    if "trim_threshold" in tunables:
        return "glibc, told to keep its memory"
    return "glibc as shipped" if platform.libc_ver()[0] == "glibc" else "the system's"


def facts() -> dict[str, Any]:
    """All that `bertsmith doctor` says, as plain JSON. Takes about a second: it measures products of matrices."""
    name, flags = processor()
    had = torch.get_num_threads()
    torch.set_num_threads(threads())
    try:
        rates = {precision: round(matmul_rate(precision) / 1e9, 1) for precision in ("fp32", "bf16")}
    finally:
        torch.set_num_threads(had)
    precision, hints = choose_precision(), []
    faster = max(rates, key=lambda kind: rates[kind])
    if faster != precision:
        hints.append(f"{faster} was measured faster than {precision} here: try precision={faster}")
    if _allocator() == "glibc as shipped":
        hints.append(f"start training with the environment variable {TUNABLES}")
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "processor": name,
        "instructions": [flag for flag in ISA if flag in flags],
        "threads": threads(),
        "memory_gib": round(memory() / 2**30, 1),
        "gpu": None if gpu is None else {"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "precision": precision,
        "gflops": rates,
        "attention": _kernels(),
        "inference": _inference(),
        "training": _training(),
        "allocator": _allocator(),
        "hints": hints,
    }


def show(found: dict[str, Any]) -> None:
    """Print what `facts` found as a table."""
    from rich.console import Console
    from rich.table import Table

    gpu = found["gpu"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "processor": found["processor"],
        "instructions": " ".join(found["instructions"]) or "none that matter here",
        "threads": f"{found['threads']} (physical cores that this process may use)",
        "memory": f"{found['memory_gib']} GiB",
        "GPU": "none" if gpu is None else f"{gpu['name']}, {gpu['memory_gib']} GiB",
        "torch": f"{found['torch']} on Python {found['python']}",
        "matrix products": ", ".join(f"{kind} {rate:,.0f} GFLOP/s" for kind, rate in found["gflops"].items()),
        "precision used": found["precision"] + (" (with fp32 masters)" if found["precision"] == "bf16" else ""),
        "attention": "; ".join(f"{form}: {said}" for form, said in found["attention"].items()),
        "inference": found["inference"],
        "training": found["training"],
        "allocator": found["allocator"],
    }
    for key, value in rows.items():
        table.add_row(key, value)
    for hint in found["hints"]:
        table.add_row("hint", hint)
    Console(highlight=False).print(table)
