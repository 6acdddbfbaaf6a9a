"""Worker processes that do not outlive the process that started them, however it ended."""

import multiprocessing
import os
import threading

PERIOD = 0.3  # seconds between looks


def die_with_parent() -> None:
    """To be called once in a worker process: a thread ends the process soon after its parent is gone."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(started_by: int) -> None:
    parent = multiprocessing.parent_process()
    while parent is not None:
        parent.join(PERIOD)
        if not parent.is_alive() or os.getppid() != started_by:
            os._exit(1)
