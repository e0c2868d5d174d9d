import asyncio
import logging
import os
import sys

import pytest

from mosel.online.child import LINE_LIMIT_BYTES, Child

pytestmark = pytest.mark.process

LIMIT_S = 60


async def run(code: str, *, kill: str | None = None) -> str:
    """Run Python code in a child and return how it ended."""
    child = Child("child")
    await child.start([sys.executable, "-c", code], [])
    assert child.pid is not None
    if kill is not None:
        child.kill(kill)
    await asyncio.wait([child.ended], timeout=LIMIT_S)
    assert child.pid is None
    child.kill("too late, and no harm")
    await child.end(0)
    return child.ended.result()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(3)", "worker process exited with status 3"),
        ("print('one'); print('two', end=''); raise SystemExit(0)", "worker process exited with status 0: two"),
        ("import os; print('words', flush=True); os.abort()", "worker process killed by signal 6 (Aborted)"),
        ("print(1 / 0)", "worker process exited with status 1: ZeroDivisionError: division by zero"),
    ],
)
async def test_it_says_how_it_ended(code: str, says: str) -> None:
    """A status comes with the last line, a signal with its name: a line before a signal explains nothing."""
    assert await run(code) == says


async def test_who_kills_it_says_why() -> None:
    """The reason given to `kill` is how it ended."""
    assert await run("import time; time.sleep(600)", kill="it hung") == "it hung"


async def test_its_lines_are_passed_on_whole_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """Standard output and error both go to the log line by line; an endless line is not waited for."""
    length = 20 * LINE_LIMIT_BYTES  # more than a pipe holds
    with caplog.at_level(logging.WARNING):
        await run(f"import sys; print('a'); print('b', file=sys.stderr); print('x' * {length})")
    lines = [record.getMessage() for record in caplog.records if record.name == "mosel.online.child"]
    assert sorted(lines)[:2] == ["child: a", "child: b"]
    assert sum(line.count("x") for line in lines) == length
    assert len(lines) > 3


async def test_a_grandchild_that_holds_the_output_delays_nothing_for_long() -> None:
    """The end is known although a process that the child started lives on and keeps its output open."""
    reading, writing = os.pipe()
    code = (
        "import os, sys\n"
        "if os.fork(): sys.exit(5)\n"
        f"os.read({reading}, 1)\n"  # until this test lets it go
    )
    child = Child("child")
    await child.start([sys.executable, "-c", code], [reading])
    os.close(reading)
    await asyncio.wait([child.ended], timeout=LIMIT_S)
    assert child.ended.result() == "worker process exited with status 5"
    await child.end(0)
    os.close(writing)


async def test_end_kills_what_does_not_go() -> None:
    """A process that ignores that nobody needs it is gone after `end`."""
    child = Child("child")
    await child.start([sys.executable, "-c", "import time; time.sleep(600)"], [])
    await child.end(0.01)
    assert child.ended.result() == "worker process killed by signal 9 (Killed)"


async def test_what_cannot_be_started_is_an_error_and_leaves_nothing() -> None:
    """The error of the system comes through; ending it afterwards is no mistake."""
    child = Child("child")
    with pytest.raises(FileNotFoundError):
        await child.start(["/nonexistent/command"], [])
    await child.end(0)
    assert child.pid is None
