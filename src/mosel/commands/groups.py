"""`mosel serve --front-doors`: groups and front doors, each a process, and the process that keeps them."""

import asyncio
import math
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from mosel.commands.serving import (
    Say,
    device_of,
    engine_config_of,
    ray_cluster,
    scheduler_options,
)
from mosel.commands.shares import Share, shares_of
from mosel.core.build import said
from mosel.core.files import write_atomic
from mosel.core.tables import write_profile
from mosel.frontend import logs
from mosel.frontend.config import ServeConfig, parse_address
from mosel.frontend.doors.counts import Counts
from mosel.frontend.doors.kin import Kin, Role
from mosel.frontend.doors.shelf import write_shelf
from mosel.frontend.doors.starts import DoorStart, GroupStart, Places
from mosel.frontend.grpc import grpc_url
from mosel.frontend.metrics import last_words
from mosel.frontend.server import CLOSING_LIMIT_S, done_before, listen, share, signals, until_broken, url_of
from mosel.online.autoscaling import write_wishes

GROUP_MODULE, DOOR_MODULE = "mosel.commands.group", "mosel.frontend.doors.process"


def serve_groups(config: ServeConfig, scheme: str, say: Say) -> None:
    """Serve until a signal has ended it.

    Raises:
        UsageError: something is wrong with the configuration, a profile or a model.
        ExecutionError: a group or a front door cannot be started, or none of a kind any more.
    """
    scheduler_options(config)
    with ExitStack() as stack:
        stack.enter_context(logs.logging_to_stderr(config.log_format, config.log_level))
        address = parse_address(config.http)
        with listen(address) as first:  # which no other server may have
            address = msgspec.structs.replace(address, port=first.getsockname()[1])
        doors = [stack.enter_context(listen(address, shared=True)) for _ in range(config.front_doors)]
        config = _with_grpc(config, stack)
        url = url_of(doors[0], scheme)
        shares = shares_of(config, say)
        names = ", ".join(shares[0].models)
        if config.engine == "ray":
            whole = engine_config_of(config, device_of(config))
            config = msgspec.structs.replace(
                config, ray_address=stack.enter_context(ray_cluster(config, whole))
            )
        say(f"listening on {url}: loading {names}")
        if config.grpc:
            say(f"listening on {grpc_url(parse_address(config.grpc))}")
        places = Places(Path(stack.enter_context(TemporaryDirectory(prefix="mosel-"))))
        counts = Counts(places.counts, config.front_doors)
        roles = _groups(config, shares, places) + _doors(config, shares, places, [d.fileno() for d in doors])

        def given_up(role: Role) -> None:
            if role.handles:  # nobody takes what comes in here
                next(door for door in doors if door.fileno() in role.handles).close()

        many = f"{config.workers} workers in {config.groups} groups, {config.front_doors} front doors"
        serving = f"serving {names} on {url} (policy {config.policy}, {many}{said()})"
        asyncio.run(_keep(roles, given_up, config.drain_s, say, serving))
        say(last_words(counts.ended()))


def _with_grpc(config: ServeConfig, stack: ExitStack) -> ServeConfig:
    """Return the configuration with the port that doors share for gRPC; it is taken as long as `stack` holds.

    Raises:
        UsageError: it is in use, or not one of this machine's.
    """
    if not config.grpc:
        return config
    address = parse_address(config.grpc)
    with listen(address, word="--grpc") as first:  # which no other server may have
        address = msgspec.structs.replace(address, port=first.getsockname()[1])
    stack.enter_context(share(address, "--grpc"))
    return msgspec.structs.replace(config, grpc=address.text)


async def _keep(
    roles: Sequence[Role], given_up: Callable[[Role], None], drain_s: float, say: Say, serving: str
) -> None:
    """Let there be these processes until a signal."""
    first, second = signals()
    kin = Kin(roles, given_up)
    try:
        if await done_before(kin.start(), first):
            say(serving)
            await until_broken(kin, first)
            say(f"draining: accepted jobs are answered, for {drain_s:g} s at most; a second signal ends them")
            kin.signal(signal.SIGTERM)
            if not await done_before(kin.until_ended(), second):
                say("ending at once: jobs that are left are dropped")
    finally:
        await kin.close(CLOSING_LIMIT_S)


def _groups(config: ServeConfig, shares: Sequence[Share], places: Places) -> list[Role]:
    """Write what each group is told, and return what starts them."""
    write_shelf(places.quotas, list(config.quotas.values()))
    write_wishes(places.wishes, [own.config.workers for own in shares])
    roles = []
    for index, own in enumerate(shares):
        for one in own.served:
            write_profile(one.profile, places.profile(index, one.model.name))
        told = msgspec.structs.replace(
            own.config,
            groups=1,
            group=(),
            front_doors=0,
            grpc="",
            accuracy=None,
            tls_certificate=None,
            tls_key=None,
            ray_address=config.ray_address,
            held_bytes=math.ceil(config.held_bytes / config.groups),
            seed=config.seed + index,
            profile=_profiles(own, places, index),
        )
        start = GroupStart(told, index, config.groups, own.first, own.on_machine)
        roles.append(_role("group", index, GROUP_MODULE, start, places))
    return roles


def _doors(config: ServeConfig, shares: Sequence[Share], places: Places, handles: list[int]) -> list[Role]:
    """Write what each front door is told, and return what starts them."""
    told = msgspec.structs.replace(
        config,
        connections=math.ceil(config.connections / len(handles)),
        held_bytes=math.ceil(config.held_bytes / len(handles)),
    )
    profiles = tuple(_profiles(own, places, index) for index, own in enumerate(shares))
    workers = tuple(own.config.workers for own in shares)
    starts = [DoorStart(told, index, len(handles), profiles, workers) for index in range(len(handles))]
    return [
        _role("front door", index, DOOR_MODULE, start, places, (handle,))
        for index, (start, handle) in enumerate(zip(starts, handles, strict=True))
    ]


def _profiles(own: Share, places: Places, group: int) -> tuple[str, ...]:
    return tuple(str(places.profile(group, name)) for name in own.models)


def _role(
    kind: str,
    index: int,
    module: str,
    start: GroupStart | DoorStart,
    places: Places,
    handles: tuple[int, ...] = (),
) -> Role:
    name = f"{kind} {index}"
    path = places.start(name.replace(" ", "-"))
    write_atomic(path, msgspec.json.encode(start))
    return Role(kind, name, (sys.executable, "-m", module, str(path), *map(str, handles)), handles)
