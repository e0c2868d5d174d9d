"""Processes that run trials beside each other, and end with the one that started them, however it ended."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process


@contextmanager
def pool(processes: int) -> Iterator[Executor | None]:
    """Yield what runs `processes` trials at a time, started as they are needed; None where one is enough.

    What has not begun when the block ends, or fails, is not run.
    """
    if processes == 1:
        yield None
        return
    executor = ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when its parent does: a pool's own processes wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process: the parent alone says so
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    assert parent is not None, "it was started by another process"
    parent.join()
    os._exit(1)
