import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

import pytest

from mosel.evaluation.experiments.pool import pool

pytestmark = pytest.mark.process

LIMIT_S = 60.0

PARENT = """
import os, time
from mosel.evaluation.experiments.pool import pool
if __name__ == "__main__":
    with pool(2) as others:
        waiting = [others.submit(os.getpid), others.submit(time.sleep, 600)]
        print(waiting[0].result(), flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    """Whatever ends the parent, none of its pool lives on, be it at work or waiting for some."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        try:
            assert parent.stdout is not None
            int(parent.stdout.readline())
            parent.send_signal(number)
            assert parent.wait(LIMIT_S) == -number
            assert _ended(parent.pid), "a process of the pool lives on"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def test_one_process_needs_no_others() -> None:
    """A pool of one is none; one of two runs what it is given elsewhere."""
    with pool(1) as none:
        assert none is None
    with pool(2) as others:
        assert isinstance(others, Executor)
        assert others.submit(os.getpid).result(LIMIT_S) != os.getpid()


def _ended(group: int) -> bool:
    """Whether nothing of a process group is left, within the limit."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
