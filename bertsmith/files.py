"""A file is written whole or not at all: to a temporary name beside it, flushed to the disk, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


def write_atomic(path: Path | str, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Fill the yielded temporary directory; on success it becomes `path` (which it replaces)."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        old = path.with_name(f"{path.name}.{os.getpid()}.old{PARTIAL}")
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def alone(lock: Path | str) -> Iterator[None]:
    """One process at a time works inside, of all that ask for this lock. It goes with the process, however that ends.

    Raises ValueError where another one is at work. Where there are no such locks (not POSIX), nothing is asked for.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    lock = Path(lock)
    while True:
        file = open(lock, "a")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.close()
            raise ValueError(
                f"another process is at work in {lock.parent}; wait for it, stop it, or say another place"
            ) from error
        if lock.exists() and os.fstat(file.fileno()).st_ino == lock.stat().st_ino:
            break
        file.close()  # whoever held it has just taken it away
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def sweep(folder: Path | str) -> None:
    """Remove what interrupted writers left in a folder."""
    for left in Path(folder).glob(f"*{PARTIAL}"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
