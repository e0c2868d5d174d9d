"""Lazy upload: what the server wants of a job before its tensors travel, and the places held for such jobs.

An offer is a job without tensors. The answer names the modalities that are wanted; the client sends these alone
and the job goes to the scheduler with them. Its arrival is the offer's, so that its deadline counts from there
and it takes the place in the deadline order that it would have had. The scheduler hears of it only then: no
batch can be formed of a job whose tensors are not here. Until then its work counts for the offers after it.

A place is held until the job could no longer be on time, and for `LONGEST_HOLD_S` at most. What is wanted may
be asked for in further steps: `Held.wanted` is the only thing that an upload is held against.
"""

import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from mosel.core.arrays import UNAVAILABLE, accuracies, latency_table
from mosel.core.clock import to_ns, to_s
from mosel.core.errors import GoneError, InputError, RefusedError
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job

LONGEST_HOLD_S = 10.0
MOST_HELD = 10_000
AHEAD = 3.0
"""Work that is ahead counts so much: a dearer mode takes its time from all that come while it runs."""


class OfferBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an offer: how many requests, which modalities there are (all, if none), and parameters."""

    requests: int
    modalities: list[str] = []
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Held:
    """An offer whose tensors are awaited: its id, the job as it was offered, what is wanted, until when."""

    id: str
    job: Job
    wanted: tuple[str, ...]
    until_ns: int
    work_ns: int


class Offers:
    """The places that are held.

    Args:
        profiles: 𝒟 of each model that is served.
        workers: how many share the work.
    """

    def __init__(self, profiles: Iterable[Profile], workers: int = 1) -> None:
        self._modes = {profile.model: _Modes(profile) for profile in profiles}
        self._workers = workers
        self._held: dict[str, Held] = {}
        self._work_ns = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The ids of the offers that are held."""
        return tuple(self._held)

    @property
    def work_s(self) -> float:
        """How long what is held will take each worker."""
        return to_s(self._work_ns) / self._workers

    def hold(self, job: Job, ahead_s: float, now_ns: int) -> Held:
        """Hold a place for a job and say what is wanted of it.

        Args:
            job: as it was offered; its modalities are those that it has.
            ahead_s: work before each worker.
            now_ns: the time.

        Raises:
            InputError: no mode of its modalities reaches its accuracy SLO.
            RefusedError: it would be late even alone, or too many places are held.
        """
        if len(self._held) >= MOST_HELD:
            raise RefusedError(f"the server is overloaded: it holds {MOST_HELD:,} offers; try again later")
        modes = self._modes[job.model]
        left_s = to_s(job.deadline_ns - now_ns)
        reaching = modes.reaching(job)
        least_s = reaching[0].latency_s
        if least_s > left_s:
            raise RefusedError(
                f"even alone, {job.requests} requests at accuracy {job.accuracy_slo:g} take at least "
                f"{1e3 * least_s:.1f} ms, and {1e3 * max(left_s, 0):.1f} ms are left; "
                "allow a longer latency SLO"
            )
        before_s = AHEAD * (ahead_s + self.work_s)
        fitting = [mode for mode in reaching if mode.latency_s + before_s <= left_s]
        mode = max(fitting, key=lambda one: one.accuracy) if fitting else reaching[0]
        hold_s = min(left_s - mode.latency_s if fitting else left_s - least_s, LONGEST_HOLD_S)
        name = f"{job.id}-{secrets.token_hex(8)}"
        held = Held(name, job, mode.modalities, now_ns + to_ns(hold_s), to_ns(mode.latency_s))
        self._held[name] = held
        self._work_ns += held.work_ns
        return held

    def find(self, name: object, model: str, now_ns: int) -> Held:
        """Return what is held under this id.

        Raises:
            GoneError: nothing is, or no more.
        """
        held = self._held.get(name) if isinstance(name, str) else None
        if held is None or held.job.model != model or now_ns > held.until_ns:
            raise GoneError(
                f"offer {str(name)[:80]!r} is not held, or no more; make a new one, "
                "or send the job without an offer"
            )
        return held

    def let_go(self, name: str) -> Held | None:
        """Hold a place no longer; None if it was not held."""
        held = self._held.pop(name, None)
        if held is not None:
            self._work_ns -= held.work_ns
        return held


def uploaded(held: Held, brought: Job) -> Job:
    """Return the job that the scheduler is told of: the offered one, with the modalities that were sent.

    Raises:
        InputError: requests or modalities are not those that were offered and wanted.
    """
    if brought.requests != held.job.requests:
        raise InputError(
            f"the tensors hold {brought.requests} requests; offer {held.id!r} was of {held.job.requests}"
        )
    missing = [name for name in held.wanted if brought.modalities and name not in brought.modalities]
    if missing:
        raise InputError(
            f"modality {missing[0]!r} is missing; offer {held.id!r} is to bring {'+'.join(held.wanted)}"
        )
    return replace(held.job, modalities=brought.modalities, length=brought.length)


@dataclass(frozen=True, slots=True)
class _Option:
    modalities: tuple[str, ...]
    accuracy: float
    latency_s: float


class _Modes:
    """What each mode of a model takes for a job of any size."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._accuracy = accuracies(profile)
        self._latency_ns = latency_table(profile)

    def reaching(self, job: Job) -> list[_Option]:
        """Return the modes that reach the job's SLO by themselves, the fastest first.

        Raises:
            InputError: there is none.
        """
        held = frozenset(job.modalities or self._profile.modalities)
        usable = [
            _Option(mode.modalities, float(self._accuracy[index]), self._latency_s(index, job))
            for index, mode in enumerate(self._profile.modes)
            if held.issuperset(mode.modalities)
        ]
        found = [mode for mode in usable if mode.accuracy >= job.accuracy_slo - ACCURACY_TOLERANCE]
        if not found:
            best = max((mode.accuracy for mode in usable), default=0.0)
            raise InputError(
                f"accuracy SLO {job.accuracy_slo:g} cannot be reached with {'+'.join(sorted(held))}: "
                f"the best is {best:g}; lower accuracy_slo or offer more modalities"
            )
        return sorted(found, key=lambda mode: mode.latency_s)

    def _latency_s(self, mode: int, job: Job) -> float:
        buckets = self._profile.length_buckets or ()
        bucket = int(np.searchsorted(buckets, job.length)) if buckets and job.length is not None else -1
        row = self._latency_ns[mode, min(bucket, self._latency_ns.shape[1] - 1)]
        sizes = np.flatnonzero((row > 0) & (row < UNAVAILABLE))
        return min(math.ceil(job.requests / size) * to_s(int(row[size])) for size in sizes)
