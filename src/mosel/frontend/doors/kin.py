"""The processes of a server: each is started, started anew when it ends, and ended with the server.

A process says on its standard output when it is ready. It ends when its standard input does, so that none
outlives the server, however that went.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mosel.core.errors import ExecutionError, MoselError

READY = "ready"
AGAIN_S = 0.1
MOST_FAILURES = 3
"""So often in a row a process may end before it is ready; then it is given up."""

log = logging.getLogger("mosel.serve")


@dataclass(frozen=True, slots=True)
class Role:
    """A process that there has to be.

    Attributes:
        kind: what it is one of; without any of a kind the server cannot serve.
        name: of this one.
        command: starts it.
        handles: file descriptors that it inherits.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    handles: tuple[int, ...] = ()


class Kin:
    """All processes.

    Args:
        roles: what there has to be.
        given_up: is told of a role that cannot be filled any more.
    """

    def __init__(self, roles: Sequence[Role], given_up: Callable[[Role], None] = lambda _: None) -> None:
        self._given_up = given_up
        self._lives = {role: _Life(role) for role in roles}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._broken = asyncio.Event()
        self._why = ""

    async def start(self) -> None:
        """Start all; return when they are ready.

        Raises:
            ExecutionError: one ended before it was.
        """
        self._tasks = [asyncio.create_task(self._keep(life)) for life in self._lives.values()]
        await asyncio.gather(*(life.first_ready for life in self._lives.values()))

    async def until_broken(self) -> ExecutionError:
        """Wait until none of a kind is left, and return why."""
        await self._broken.wait()
        return ExecutionError(self._why)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all; none is started anew."""
        self._closing = True
        for life in self._lives.values():
            life.signal(number)

    async def until_ended(self) -> None:
        """Wait until all have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self, limit_s: float) -> None:
        """End what is left, by force after a while."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await asyncio.shield(self.until_ended())
        self.signal(signal.SIGKILL)
        await self.until_ended()

    async def _keep(self, life: "_Life") -> None:
        """Let a role be filled as long as the server serves."""
        failures = 0
        while not self._closing:
            was_ready = await life.live()
            failures = 0 if was_ready else failures + 1
            if self._closing:
                break
            if not life.first_ready.done():
                life.first_ready.set_exception(
                    ExecutionError(f"{life.role.name} cannot be started: {life.how}")
                )
                return
            log.warning("%s ended: %s", life.role.name, life.how)
            if failures >= MOST_FAILURES:
                self._give_up(life)
                return
            await asyncio.sleep(AGAIN_S)
        if not life.first_ready.done():
            life.first_ready.cancel()

    def _give_up(self, life: "_Life") -> None:
        life.gone = True
        log.error("%s is given up: it ended %d times before it was ready", life.role.name, MOST_FAILURES)
        self._given_up(life.role)
        kind = life.role.kind
        if all(other.gone for role, other in self._lives.items() if role.kind == kind):
            self._why = f"no {kind} can be started any more: {life.how}"
            self._broken.set()


class _Life:
    """One process after the other in a role."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.how = ""
        self.gone = False
        self._closing = False
        self._process: Process | None = None

    async def live(self) -> bool:
        """Start a process and wait for its end; whether it was ready meanwhile."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self.role.command, stdin=PIPE, stdout=PIPE, pass_fds=self.role.handles, start_new_session=True
        )
        assert process.stdout is not None
        if self._closing:
            self.signal(signal.SIGKILL)
        ready = False
        async for line in process.stdout:
            if line.decode(errors="replace").rstrip() == READY:
                ready = True
                if not self.first_ready.done():
                    self.first_ready.set_result(None)
        status = await process.wait()
        self.how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return ready

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that there is, the last one."""
        self._closing = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def say_ready(text: str) -> None:
    """Say that this process is ready, if that is what `text` is; all else that it notes goes unsaid."""
    if text == READY:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def as_kin(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run this process; an error of ours is told in one line."""
    _end_with_parent()
    try:
        main(arguments)
    except MoselError as error:
        sys.exit(f"mosel: {' '.join(str(error).split())}")


def _end_with_parent() -> None:
    """Let this process end when its standard input does: its parent is gone, and nobody waits for an answer."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
