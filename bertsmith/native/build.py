"""Compile the kernel: `python -m bertsmith.native.build [FOLDER]`. Installation calls it; nobody else has to.

Every source is compiled once for each instruction set, and one library holds them all; which of them runs is decided when it is
loaded. clang is needed (g++ spills the sums of a product, which costs half the speed): $CXX, that of the `ziglang` wheel, or
clang++, the first there is. This file imports nothing of bertsmith, so that it runs before bertsmith is installed.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "_kernel.so"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-g0"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
SETS = {
    "avx2": AVX2,
    "avx2_vnni": [*AVX2, "-mavxvnni"],
    "avx512_vnni": [*AVX512, "-mavx512vnni"],
    "avx512_bf16": [*AVX512, "-mavx512vnni", "-mavx512bf16"],
}
STEP = "avx512_bf16"  # what training is compiled for


def compiler() -> list[str]:
    """The command of a C++ compiler. Raises RuntimeError, saying what was looked for, if there is none."""
    if said := os.environ.get("CXX"):
        return shlex.split(said)
    if importlib.util.find_spec("ziglang"):
        # an old C library as its target, so that a wheel runs on systems older than the one that built it
        return [sys.executable, "-m", "ziglang", "c++", "-target", "x86_64-linux-gnu.2.17"]
    if shutil.which("clang++"):
        return ["clang++", "-pthread"]
    raise RuntimeError("no clang: install one, or `pip install ziglang`, which brings it, or name it in $CXX")


def build(folder: Path, extra: tuple[str, ...] = ()) -> Path:
    """Write the library into a folder, whole or not at all, and return its path.

    extra: further flags, "-fsanitize=address" for one.

    Raises RuntimeError where it cannot be built, and why.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise RuntimeError(f"the kernel is for x86-64 on Linux; this is {platform.machine()} on {sys.platform}")
    command = compiler()
    with tempfile.TemporaryDirectory() as work:
        jobs = [(f"{name}.cpp", name, []) for name in ("entry", "words")]
        jobs += [("encoder.cpp", isa, [*flags, f"-DBS_ISA={isa}", f'-DBS_NAME="{isa}"']) for isa, flags in SETS.items()]
        jobs += [
            (f"{name}.cpp", name, [*SETS[STEP], "-maes", f"-DBS_ISA={STEP}"]) for name in ("step", "embed", "update")
        ]
        objects = [f"{work}/{name}.o" for _, name, _ in jobs]
        calls = [
            [*command, *FLAGS, *extra, *flags, "-c", str(HERE / source), "-o", made]
            for (source, _, flags), made in zip(jobs, objects, strict=True)
        ]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(_call, calls))
        _call([*command, *extra, "-shared", "-fPIC", *objects, "-o", f"{work}/{NAME}"])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"{work}/{NAME}", folder / f"{NAME}.part")
    os.replace(folder / f"{NAME}.part", folder / NAME)
    return folder / NAME


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
