"""The running server: a socket, uvicorn on it, an engine behind it, and what signals do to them.

It listens, and says that it lives, before the engine is warm; it is ready only then. The first SIGTERM or
SIGINT drains: no new jobs, those accepted get their answers. The second ends it at once.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Protocol

import uvicorn
import uvloop

from mosel.core.errors import UsageError
from mosel.frontend.config import Address
from mosel.frontend.http import HttpApp

BACKLOG = 2048
KEEP_ALIVE_S = 75
CLOSING_LIMIT_S = 5
"""How long a connection may take to read its last answer once the server is closing."""


class RunningEngine(Protocol):
    """What the server needs of an engine beyond what the service needs."""

    async def start(self) -> None:
        """Return when it is warm."""

    async def drain(self, limit_s: float) -> None:
        """Refuse new jobs and return when those accepted have their outcome, after `limit_s` at the latest."""

    async def stop(self) -> None:
        """End its workers."""


def listen(address: Address) -> socket.socket:
    """Return a socket that listens on `address`.

    Raises:
        UsageError: it is in use, or not one of this machine's.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(BACKLOG)  # only now is the port taken for everybody else
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {address.host}:{address.port}: {reason}; give another --http HOST:PORT"
        ) from error
    return listening


def run(
    app: HttpApp,
    engine: RunningEngine,
    listening: socket.socket,
    drain_s: float,
    on_ready: Callable[[], None],
    on_drain: Callable[[], None],
) -> None:
    """Serve until a signal has ended it.

    Args:
        app: what answers.
        engine: what it answers from; started here, and stopped.
        listening: where to listen; closed at the end.
        drain_s: how long accepted jobs may take after the first signal.
        on_ready: called when jobs are taken.
        on_drain: called when they are no longer taken.

    Raises:
        ExecutionError: the engine cannot start.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, engine, listening, drain_s, on_ready, on_drain))


async def _serve(
    app: HttpApp,
    engine: RunningEngine,
    listening: socket.socket,
    drain_s: float,
    on_ready: Callable[[], None],
    on_drain: Callable[[], None],
) -> None:
    first, second = _signals()
    server = _Server(_uvicorn_config(app))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        if await _done_before(engine.start(), first):
            on_ready()
            await asyncio.wait({serving, asyncio.create_task(first.wait())}, return_when="FIRST_COMPLETED")
            on_drain()
            await _done_before(engine.drain(drain_s), second)
    finally:
        await engine.stop()
        server.should_exit, server.force_exit = True, second.is_set()
        await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the engine drains before the server closes."""
        yield


def _uvicorn_config(app: HttpApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSING_LIMIT_S,
    )


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Return what the first signal sets, and what the second."""
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return first, second


async def _done_before(work: Coroutine[object, object, None], event: asyncio.Event) -> bool:
    """Run `work` unless `event` comes first, which cancels it; return whether it was done."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait({working, waiting}, return_when="FIRST_COMPLETED")
    waiting.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return False
