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

DRAIN_S = 1.0
ACTOR = "ray::RayWorker"
"""What Ray calls the process of a worker."""

WORD = "mosel.models.faulty:model"

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_OUTCOME = re.compile(r'outcome="(\w+)"')
_ANSWERED = re.compile(r"^answered [\d,]+ jobs: (.*); refused ([\d,]+) calls$", re.MULTILINE)


class Server(ServerProcess):
    """One `mosel serve` after the other, at the same address.

    Args:
        folder: for its profile and configuration.
        workers: how many worker processes it has.
        settings: more of its configuration, as TOML.
        engine: what its workers stand on.
        hang_s: a batch without an answer for this long has hung its worker; by default as `limits` says.

    Attributes:
        limits: how long things may take.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        settings: str = "",
        engine: str = "local",
        hang_s: float | None = None,
    ) -> None:
        paths = folder / "profile.json", folder / "mosel.toml"
        super().__init__((WORD, "--profile", str(paths[0]), "--config", str(paths[1])))
        self.starts = 0
        write_profile(profile(), paths[0])
        self._engine = engine
        self.limits = LIMITS[engine]
        chosen = f'engine = "{engine}"\n'
        chosen += f"hang_s = {hang_s or self.limits.hang}\ndrain_s = {DRAIN_S}\nworkers = {workers}\n{settings}"
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
        if self._engine == "ray":
            return [pid for pid in _descendants(self.pid) if _word(pid).startswith(ACTOR)]
        return _children(self.pid)

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

    def tally(self) -> Counter[str]:
        """Return its jobs by outcome; calls that became no job count as rejected."""
        counts: Counter[str] = Counter()
        for name, labels, value in self._samples:
            if name == "mosel_jobs_total" and (found := _OUTCOME.search(labels)):
                counts[found[1]] += int(value)
        counts["rejected"] += self.total("mosel_refused_calls_total")
        return +counts


async def read_metrics(session: aiohttp.ClientSession, url: str) -> Metrics:
    """Return the server's counts as they stand."""
    async with session.get(f"{url}/metrics") as response:
        return Metrics(await response.text())


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


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def _descendants(pid: int) -> list[int]:
    found, ahead = [], [pid]
    while ahead:
        own = _children(ahead.pop())
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
