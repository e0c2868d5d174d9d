"""The server that chaos is brought upon: a `mosel serve` process of its own, on a port that it keeps."""

import asyncio
import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from mosel.core.files import write_atomic
from mosel.core.tables import PROFILE_FORMAT, Mode, Profile, write_profile
from mosel.evaluation.server_process import ServerProcess
from mosel.models import faulty
from mosel.runtime.device import describe


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take with an engine, in seconds.

    Attributes:
        hang: a batch without an answer for this long has hung its worker.
        noticed: a fault. A job may be given up before it does harm; then another tries.
        answer: an answer.
        settle: until the server has noticed everything.
        gone: until workers are gone after their server.
    """

    hang: float
    noticed: float
    answer: float
    settle: float
    gone: float


LIMITS = {"local": Limits(0.4, 8.0, 15.0, 5.0, 5.0), "ray": Limits(2.0, 60.0, 60.0, 20.0, 30.0)}
"""A new actor takes seconds where a new process takes a fraction of one."""

FLEET_LIMITS = Limits(0.4, 40.0, 15.0, 20.0, 10.0)
"""A group that is started anew loads its models and starts its workers before it is seen to be there."""

DRAIN_S = 1.0
GROUP, DOOR = "mosel.commands.group", "mosel.frontend.doors.process"
"""What the processes of groups and front doors run."""

ACTOR = "ray::RayWorker"
"""What Ray calls the process of a worker."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server is made of.

    Attributes:
        workers: how many workers it has.
        engine: what they stand on.
        groups: how many groups they are dealt out to.
        front_doors: how many processes take calls for groups, which are processes too; 0 is one for all.
    """

    workers: int = 1
    engine: str = "local"
    groups: int = 1
    front_doors: int = 0

    @property
    def limits(self) -> Limits:
        """How long things may take."""
        return FLEET_LIMITS if self.front_doors and self.engine == "local" else LIMITS[self.engine]

    @property
    def settings(self) -> str:
        """As TOML, for its configuration."""
        return (
            f'engine = "{self.engine}"\nworkers = {self.workers}\ngroups = {self.groups}\n'
            f"front_doors = {self.front_doors}\n"
        )


WORD = "mosel.models.faulty:model"

AT_DOORS = "mosel_door_answered_total"
AGAIN_S, TRIES = 0.05, 100

_WORKER_STATE, _READY = "mosel_worker_state", 'state="ready"'
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_OUTCOME = re.compile(r'outcome="(\w+)"')
_ANSWERED = re.compile(r"^answered [\d,]+ jobs: (.*); refused ([\d,]+) calls$", re.MULTILINE)


DEFAULT = Setup()


class Server(ServerProcess):
    """One `mosel serve` after the other, at the same address.

    Args:
        folder: for its profile and configuration.
        setup: what it is made of.
        settings: more of its configuration, as TOML.
        hang_s: a batch without an answer for this long has hung its worker; by default as `limits` says.

    Attributes:
        setup: as above.
        limits: how long things may take.
    """

    def __init__(
        self, folder: Path, setup: Setup = DEFAULT, settings: str = "", hang_s: float | None = None
    ) -> None:
        paths = folder / "profile.json", folder / "mosel.toml"
        super().__init__((WORD, "--profile", str(paths[0]), "--config", str(paths[1])))
        self.starts = 0
        write_profile(profile(), paths[0])
        self.setup, self.limits = setup, setup.limits
        chosen = f"{setup.settings}hang_s = {hang_s or self.limits.hang}\ndrain_s = {DRAIN_S}\n{settings}"
        write_atomic(paths[1], chosen)

    async def start(self) -> None:
        """Return when it serves.

        Raises:
            NotReadyError: it does not; the message carries what it said.
        """
        await super().start()
        self.starts += 1

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        if not self.runs:
            return []
        if self.setup.engine == "ray":
            return [pid for pid in descendants(self.pid) if _word(pid).startswith(ACTOR)]
        if self.setup.front_doors:
            return [worker for group in self.kin(GROUP) for worker in children(group)]
        return children(self.pid)

    def kin(self, module: str) -> list[int]:
        """Return the process ids of its groups, or of its front doors, if these are processes."""
        return [pid for pid in children(self.pid) if module in _word(pid)] if self.runs else []

    def everything(self) -> list[int]:
        """Return the process ids of all that has to be gone when it is."""
        return descendants(self.pid) if self.setup.front_doors and self.runs else self.workers()

    def final_tally(self) -> Counter[str] | None:
        """Return what it says at its end that became of its jobs, as `Metrics.tally`; None if it is silent."""
        found = _ANSWERED.search(self.last_words)
        if found is None:
            return None
        parts = (part.split() for part in found[1].split(", "))
        counts = Counter({words[0]: int(words[1].replace(",", "")) for words in parts})
        counts["rejected"] += int(found[2].replace(",", ""))
        return +counts


class Metrics:
    """The server's own counts, from `/metrics`."""

    def __init__(self, text: str) -> None:
        self._samples = [(name, labels, float(value)) for name, labels, value in _SAMPLE.findall(text)]

    def total(self, name: str) -> int:
        """Return a metric, summed over its labels."""
        return int(sum(value for found, _, value in self._samples if found == name))

    def samples(self, name: str) -> int:
        """Return how many samples there are of a metric: one a group, of one that has no labels."""
        return sum(found == name for found, _, _ in self._samples)

    def ready_workers(self) -> int:
        """Return how many workers are ready."""
        states = (value for name, labels, value in self._samples if name == _WORKER_STATE and _READY in labels)
        return int(sum(states))

    def tally(self) -> Counter[str]:
        """Return its jobs by outcome; calls that became no job count as rejected.

        Where there are front doors it is they that count: a group that is started anew counts from 0.
        """
        if not self.samples(AT_DOORS):
            return +(
                self._outcomes("mosel_jobs_total") + Counter(rejected=self.total("mosel_refused_calls_total"))
            )
        more = {
            "rejected": self.total("mosel_door_refused_total"),
            "dropped": self.total("mosel_door_gone_total"),
        }
        return +(self._outcomes(AT_DOORS) + Counter(more))

    def _outcomes(self, name: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for found, labels, value in self._samples:
            if found == name and (outcome := _OUTCOME.search(labels)):
                counts[outcome[1]] += int(value)
        return counts


async def read_metrics(session: aiohttp.ClientSession, server: Server) -> Metrics:
    """Return the server's counts as they stand; a front door that is killed meanwhile is asked again.

    Raises:
        aiohttp.ClientError: the server is gone.
    """
    for left in reversed(range(TRIES if server.setup.front_doors else 1)):
        try:
            async with session.get(f"{server.url}/metrics") as response:
                return Metrics(await response.text())
        except aiohttp.ClientError:
            if not left or not server.runs:
                raise
            await asyncio.sleep(AGAIN_S)
    raise AssertionError("unreachable")


async def all_gone(pids: Sequence[int], limit_s: float) -> bool:
    """Wait until these processes are no more; whether they went in time."""
    until_s = time.monotonic() + limit_s
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(0.01)
    return True


def profile() -> Profile:
    """Return 𝒟 of the faulty model on this machine, as its latencies are chosen."""
    sizes = tuple(range(1, faulty.MAX_BATCH + 1))
    modes = []
    for name, accuracy in faulty.ACCURACY.items():
        latency_s = [faulty.latency_s(name, size) for size in sizes]
        modes.append(
            Mode(tuple(name.split("+")), accuracy, accuracy, 100, latency_s, latency_s, [1] * len(sizes))
        )
    return Profile(
        format=PROFILE_FORMAT,
        model=faulty.model.name,
        modalities=faulty.model.modality_names,
        metric="accuracy",
        batch_sizes=sizes,
        modes=tuple(modes),
        device=describe("cpu", "numpy"),
        precision="float32",
        software={},
        measured_at="2026-01-01T00:00:00Z",
    )


def children(pid: int) -> list[int]:
    """Return the process ids of a process' children that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Return the process ids of a process' children, of theirs, and so on."""
    found, ahead = [], [pid]
    while ahead:
        own = children(ahead.pop())
        found += own
        ahead += own
    return sorted(found)


def _word(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
