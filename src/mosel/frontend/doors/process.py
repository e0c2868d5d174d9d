"""A front door's process: `python -m mosel.frontend.doors.process FILE SOCKET`, from `commands/groups.py`.

The second argument is a file descriptor that it inherits: the socket to listen on, one of several at the port.
"""

import asyncio
import random
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mosel.core.clock import monotonic_ns
from mosel.core.errors import ExecutionError
from mosel.core.files import allow_open_files
from mosel.core.tables import Profile, read_profile
from mosel.frontend import logs
from mosel.frontend.bodies import Bodies
from mosel.frontend.checks import Checker
from mosel.frontend.config import ServeConfig, parse_address
from mosel.frontend.doors.app import DoorApp
from mosel.frontend.doors.counts import Counts
from mosel.frontend.doors.desk import Desk
from mosel.frontend.doors.glimpse import Glimpse
from mosel.frontend.doors.grpc_door import DoorAnswers
from mosel.frontend.doors.kin import READY, as_kin, say_ready
from mosel.frontend.doors.links import Links
from mosel.frontend.doors.loads import DOWN, Listener
from mosel.frontend.doors.router import Peer, Router
from mosel.frontend.doors.starts import DoorStart, Places, read_door
from mosel.frontend.grpc import GrpcServer
from mosel.frontend.keys import Keys, read_keys
from mosel.frontend.server import CLOSING_LIMIT_S, Door, run
from mosel.models.registry import find
from mosel.online.expected import SharedCosts
from mosel.online.front_door import Choices, FrontDoor
from mosel.online.group import Load, Place
from mosel.online.layout import REPORT_NS
from mosel.solve.warm_up import warm_up


def main(arguments: Sequence[str]) -> None:
    """Take calls until a signal has ended it."""
    path = Path(arguments[0])
    start, places = read_door(path), Places(path.parent)
    config = start.config
    allow_open_files()
    warm_up()
    with socket.socket(fileno=int(arguments[1])) as listening:
        entrance = Entrance(start, places)
        door = Door(config.connections, config.tls_certificate, config.tls_key)
        with logs.logging_to_stderr(config.log_format, config.log_level):
            run(
                DoorApp(entrance.desk),
                entrance,
                listening,
                config.drain_s,
                say_ready,
                READY,
                door,
                entrance.grpc,
            )


class Entrance:
    """A front door as the server runs it: what answers, and what it hears of the groups.

    Args:
        start: what it was told.
        places: where the groups are.

    Attributes:
        desk: what is behind all protocols.
        grpc: the server of gRPC, if there is one.
    """

    def __init__(self, start: DoorStart, places: Places) -> None:
        config = start.config
        profiles = [[read_profile(Path(file)).profile for file in own] for own in start.profiles]
        peers = _peers(profiles, start.workers)
        groups = range(len(peers))
        rng = random.Random(f"{config.seed} {start.index}")
        self._door = FrontDoor(peers, REPORT_NS, 0, 0, rng)
        for group in groups:
            self._door.heard(group, DOWN, monotonic_ns())
        self._links = [Links(str(places.calls(group))) for group in groups]
        self._listeners = [Listener(str(places.loads(group)), self._hears(group)) for group in groups]
        counts = Counts(places.counts, start.doors, start.index)
        router = Router(self._door, Choices(peers), peers, self._links, counts, monotonic_ns)
        keys = read_keys(Path(config.keys)) if config.keys else Keys()
        glimpses = _glimpses(start, profiles)
        bodies = Bodies(config.limits)
        self.desk = Desk(router, glimpses, bodies, counts, keys, monotonic_ns)
        self.grpc = _grpc_server(config, self.desk)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return when a group is up."""
        self._tasks = [asyncio.create_task(listener.listen()) for listener in self._listeners]
        await self.desk.heard.wait()

    async def drain(self, limit_s: float) -> None:
        """Take no more calls and return when those under way are answered; groups end theirs by then."""
        self.desk.closed = True
        try:
            async with asyncio.timeout(limit_s + CLOSING_LIMIT_S):
                await self.desk.until_idle()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """Listen no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for links in self._links:
            links.close()

    async def until_broken(self) -> ExecutionError:
        """Wait: nothing here can break but by its process."""
        never: asyncio.Future[ExecutionError] = asyncio.get_running_loop().create_future()
        return await never

    def _hears(self, group: int) -> Callable[[Load, int], None]:
        def heard(load: Load, at_ns: int) -> None:
            self._door.heard(group, load, at_ns)
            if load.up:
                self.desk.heard.set()

        return heard


def _grpc_server(config: ServeConfig, desk: Desk) -> GrpcServer | None:
    """Return this door's share of the server of gRPC."""
    if not config.grpc:
        return None
    tls = (config.tls_certificate, config.tls_key) if config.tls_certificate and config.tls_key else None
    return GrpcServer(DoorAnswers(desk, config.limits), parse_address(config.grpc), tls, shared=True)


def _peers(profiles: Sequence[Sequence[Profile]], workers: Sequence[int]) -> list[Peer]:
    """Return the groups."""
    costs, found, first = SharedCosts(), [], 0
    for index, (own, count) in enumerate(zip(profiles, workers, strict=True)):
        members: list[Mapping[str, Profile]] = [{profile.model: profile for profile in own}] * count
        found.append(Peer(Place(index, len(workers), range(first, first + count)), costs.of(members)))
        first += count
    return found


def _glimpses(start: DoorStart, profiles: Sequence[Sequence[Profile]]) -> dict[str, Glimpse]:
    """Return what reads calls for each model, by its name."""
    config = start.config
    models = {model.name: model for model in map(find, config.models)}
    every = {profile.model: profile for own in profiles for profile in own}
    return {
        name: Glimpse(model, Checker(model, every[name], config.limits, config.tenants))
        for name, model in models.items()
    }


if __name__ == "__main__":
    as_kin(main, sys.argv[1:])
