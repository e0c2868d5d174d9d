"""The running server: a socket, uvicorn on it, an engine behind it, and what signals do to them.

It listens, and says that it lives, before the engine is warm; it is ready only then. The first SIGTERM or
SIGINT drains: no new jobs, those accepted get their answers. The second ends it at once.
"""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import uvicorn
import uvloop
from starlette.types import ASGIApp

from mosel.core.errors import ExecutionError, UsageError
from mosel.frontend.config import Address
from mosel.frontend.connection import at_most
from mosel.online.garbage import keep_pauses_short

BACKLOG = 2048
KEEP_ALIVE_S = 75
ECHO_S = 0.5
"""A signal so soon after another is the same one, which a wrapper (`timeout`, a container's init) passed on."""

CLOSING_LIMIT_S = 5
"""How long a connection may take to read its last answer once the server is closing."""


class Breakable(Protocol):
    """What may serve no more."""

    async def until_broken(self) -> ExecutionError:
        """Return when it can serve no more, and why."""


class RunningEngine(Breakable, Protocol):
    """What the server needs of an engine beyond what the service needs."""

    async def start(self) -> None:
        """Return when it is warm."""

    async def drain(self, limit_s: float) -> None:
        """Refuse new jobs and return when those accepted have their outcome, after `limit_s` at the latest."""

    async def stop(self) -> None:
        """End its workers."""


class Beside(Protocol):
    """A server of another protocol, such as `GrpcServer`."""

    async def start(self) -> str:
        """Listen, and return where."""

    async def stop(self, limit_s: float) -> None:
        """End, after `limit_s` at the latest."""


def listen(address: Address, *, shared: bool = False, word: str = "--http") -> socket.socket:
    """Return a socket that listens on `address`; with `shared`, others of this user may listen there too.

    Args:
        address: where.
        shared: as above.
        word: the option that names another address.

    Raises:
        UsageError: it is in use, or not one of this machine's.
    """
    with _told(address, word):
        listening = _bound(address, shared=shared)
        try:
            listening.listen(BACKLOG)  # only now is the port taken for everybody else
        except BaseException:
            listening.close()
            raise
    return listening


def share(address: Address, word: str) -> socket.socket:
    """Return a socket that takes a port for processes of this user that share it; nobody listens yet.

    Raises:
        UsageError: as `listen`.
    """
    with _told(address, word):
        return _bound(address, shared=True)


def _bound(address: Address, *, shared: bool) -> socket.socket:
    family, kind, _, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(place)
    except BaseException:
        bound.close()
        raise
    return bound


@contextlib.contextmanager
def _told(address: Address, word: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {address.host}:{address.port}: {reason}; give another {word} HOST:PORT"
        ) from error


def listen_here(path: Path) -> socket.socket:
    """Return a socket that processes of this machine reach at `path`; one that is there is taken over."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


@dataclass(frozen=True, slots=True)
class Door:
    """How clients come in.

    Attributes:
        connections: how many there may be at once.
        certificate: a PEM file; HTTPS is spoken then.
        key: its private key, a PEM file.
    """

    connections: int = 16384
    certificate: str | None = None
    key: str | None = None

    @property
    def scheme(self) -> str:
        """What addresses begin with."""
        return "https" if self.certificate else "http"

    def check(self) -> None:
        """See that the certificate can be used, before anything is loaded.

        Raises:
            UsageError: it, or its key, is missing or no such thing.
        """
        if bool(self.certificate) != bool(self.key):
            raise UsageError("one of tls_certificate and tls_key is missing; expected both, or neither")
        if self.certificate:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key)
            except OSError as error:  # an ssl.SSLError is one too
                raise UsageError(
                    f"tls_certificate {self.certificate}, tls_key {self.key}: cannot be used: "
                    f"{error.strerror or error}; expected PEM files that belong together"
                ) from error


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """Return the address of a listening socket, for a person to use."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def run(
    app: ASGIApp,
    engine: RunningEngine,
    listening: socket.socket,
    drain_s: float,
    say: Callable[[str], None],
    serving: str,
    door: Door | None = None,
    beside: Beside | None = None,
) -> None:
    """Serve until a signal has ended it.

    Args:
        app: what answers.
        engine: what it answers from; started here, and stopped.
        listening: where to listen; closed at the end.
        drain_s: how long accepted jobs may take after the first signal.
        say: takes notes for the person who waits.
        serving: the note once jobs are taken.
        door: how clients come in.
        beside: another protocol's server on the same engine; started here, and stopped.

    Raises:
        ExecutionError: the engine cannot start, or it broke.
        UsageError: `beside` cannot listen.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = _Server(_uvicorn_config(app, door or Door()))
        runner.run(_serve(server, engine, listening, drain_s, say, serving, beside))


async def _serve(
    server: "_Server",
    engine: RunningEngine,
    listening: socket.socket,
    drain_s: float,
    say: Callable[[str], None],
    serving: str,
    beside: Beside | None,
) -> None:
    first, second = signals()
    listen_on = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        if beside is not None:
            say(f"listening on {await beside.start()}")
        if await done_before(engine.start(), first):
            keep_pauses_short()
            say(serving)
            await until_broken(engine, first)
            say(f"draining: accepted jobs are answered, for {drain_s:g} s at most; a second signal ends them")
            if not await done_before(engine.drain(drain_s), second):
                say("ending at once: jobs that are left are dropped")
    finally:
        await engine.stop()
        if beside is not None:
            await beside.stop(0 if second.done() else CLOSING_LIMIT_S)
        server.should_exit, server.force_exit = True, second.done()
        await listen_on


async def until_broken(engine: Breakable, signalled: "asyncio.Future[None]") -> None:
    """Wait for a signal.

    Raises:
        ExecutionError: what serves broke before.
    """
    broken = asyncio.ensure_future(engine.until_broken())
    either: set[asyncio.Future[Any]] = {broken, signalled}
    await asyncio.wait(either, return_when="FIRST_COMPLETED")
    if broken.done():
        raise broken.result()
    broken.cancel()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the engine drains before the server closes."""
        yield


def _uvicorn_config(app: ASGIApp, door: Door) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=at_most(door.connections),
        ssl_certfile=door.certificate,
        ssl_keyfile=door.key,
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


def signals() -> tuple["asyncio.Future[None]", "asyncio.Future[None]"]:
    """Return what is done at the first signal, and what at the second."""
    loop = asyncio.get_running_loop()
    both = loop.create_future(), loop.create_future()
    counts_from_s = 0.0

    def on_signal() -> None:
        nonlocal counts_from_s
        waiting = next((one for one in both if not one.done()), None)
        if waiting is not None and loop.time() >= counts_from_s:
            waiting.set_result(None)
            counts_from_s = loop.time() + ECHO_S

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return both


async def done_before(work: Coroutine[object, object, None], signalled: "asyncio.Future[None]") -> bool:
    """Run `work` unless the signal comes first, which cancels it; return whether it was done."""
    working = asyncio.ensure_future(work)
    await asyncio.wait({working, signalled}, return_when="FIRST_COMPLETED")
    if working.done():
        working.result()
        return True
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return False
