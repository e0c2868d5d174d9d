"""What the server does when its engine cannot start, breaks, or is told to end before it is warm."""

import asyncio
import os
import signal
import urllib.request

import pytest

from mosel.core.errors import ExecutionError
from mosel.frontend.config import Address
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.server import listen, run, url_of
from mosel.frontend.service import Service
from mosel.models.base import Modality, Model, Tensor

pytestmark = pytest.mark.process

MODEL = Model(
    "m", (Modality("x", (Tensor("x", "FP32", ()),)),), (Tensor("y", "FP32", ()),), lambda _d, _p: lambda **_: {}
)


class Engine(InstantEngine):
    """An engine that starts, breaks or does neither, and notes what it was asked for."""

    def __init__(self, *, starts: bool = True, warms: bool = True, breaks: bool = False) -> None:
        super().__init__(zeros(MODEL))
        self.asked: list[str] = []
        self._starts, self._warms, self._breaks = starts, warms, breaks

    async def start(self) -> None:
        """Start, fail, or take for ever."""
        if not self._starts:
            raise ExecutionError("worker 0 cannot be started")
        if not self._warms:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        self.asked.append("start")

    async def drain(self, limit_s: float) -> None:
        """Note it."""
        self.asked.append(f"drain {limit_s}")

    async def stop(self) -> None:
        """Note it."""
        self.asked.append("stop")

    async def until_broken(self) -> ExecutionError:
        """Break at once, or never."""
        if not self._breaks:
            await asyncio.Event().wait()
        return ExecutionError("no worker is left")


def serve(engine: Engine) -> list[str]:
    """Serve until the end and return what was said."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text == "serving":
            os.kill(os.getpid(), signal.SIGTERM)

    with listen(Address("127.0.0.1", 0)) as listening:
        run(HttpApp(Service(engine, [])), engine, listening, 5.0, say, "serving")
    return said


def test_signal_drains_then_stops() -> None:
    """A signal drains the engine, within the limit, before it stops it."""
    engine = Engine()
    said = serve(engine)
    assert engine.asked == ["start", "drain 5.0", "stop"]
    assert said[0] == "serving"
    assert said[1].startswith("draining: accepted jobs are answered, for 5 s at most")


def test_signal_while_starting() -> None:
    """A signal that comes before the engine is warm ends the server quietly."""
    engine = Engine(warms=False)
    assert serve(engine) == []
    assert engine.asked == ["stop"]


def test_engine_that_cannot_start() -> None:
    """An engine that cannot start is the server's error; nothing is served."""
    engine = Engine(starts=False)
    with pytest.raises(ExecutionError, match="worker 0 cannot be started"):
        serve(engine)
    assert engine.asked == ["stop"]


def test_engine_that_breaks() -> None:
    """An engine that breaks ends the server with its error."""
    engine = Engine(breaks=True)
    with pytest.raises(ExecutionError, match="no worker is left"):
        serve(engine)
    assert engine.asked == ["start", "stop"]


def test_alive_before_ready() -> None:
    """While the engine starts the server answers that it lives."""
    answers: list[int] = []

    class Slow(Engine):
        async def start(self) -> None:
            """Ask the server whether it lives, then start."""
            answers.append(await asyncio.to_thread(ask))
            await super().start()

    def ask() -> int:
        with urllib.request.urlopen(f"{url}/v2/health/live", timeout=30) as reply:
            return int(reply.status)

    engine = Slow()
    with listen(Address("127.0.0.1", 0)) as listening:
        url = url_of(listening)
        run(
            HttpApp(Service(engine, [])),
            engine,
            listening,
            5.0,
            lambda text: os.kill(os.getpid(), signal.SIGTERM) if text == "serving" else None,
            "serving",
        )
    assert answers == [200]
