"""Lazy upload: what the server wants of a job before its tensors travel, and the places held for such jobs.

An offer is a job without tensors. The answer names the modalities that are wanted; the client sends these alone
and the job goes to the scheduler with them. Its arrival is the offer's, so that its deadline counts from there
and it takes the place in the deadline order that it would have had. The scheduler hears of it only then: no
batch can be formed of a job whose tensors are not here. Until then its work counts for the offers after it.

A place is held until the job could no longer be on time, and for `LONGEST_HOLD_S` at most. What is wanted may
be asked for in two steps (`steps.py`): `Held.wanted` is the only thing that an upload is held against.
"""

import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE, accuracies, latency_table
from mosel.core.clock import to_ns, to_s
from mosel.core.errors import GoneError, InputError, RefusedError
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job
from mosel.frontend.steps import First, Steps
from mosel.models.base import Model
from mosel.online.answers import Answer
from mosel.online.columns import CascadeColumn, cascade_columns

OFFER = "offer"
"""The parameter of an inference request that names the offer whose tensors it brings."""

LONGEST_HOLD_S = 10.0
MOST_HELD = 10_000
AHEAD = 3.0
"""Work that is ahead counts so much: a dearer mode takes its time from all that come while it runs."""


class OfferBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an offer: how many requests, which modalities there are (all, if none), and parameters.

    `steps` is in how many uploads the client can bring the tensors: 1, or 2 where it sends more when asked to.
    """

    requests: int
    modalities: list[str] = []
    parameters: dict[str, Any] = {}
    steps: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1


@dataclass(frozen=True, slots=True)
class Held:
    """An offer whose tensors are awaited: its id, the job as it was offered, what is wanted, until when.

    `column` is the cascade whose first stage is awaited, if one is. After it `first` is what that stage left,
    and `job` is the one of its unsure requests.
    """

    id: str
    job: Job
    wanted: tuple[str, ...]
    until_ns: int
    work_ns: int
    column: CascadeColumn | None = None
    first: First | None = None

    @property
    def whole(self) -> Job:
        """The job as it was offered."""
        return self.job if self.first is None else self.first.whole


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

    def hold(self, job: Job, ahead_s: float, now_ns: int, steps: int = 1) -> Held:
        """Hold a place for a job and say what is wanted of it.

        With two steps that is a cascade's first stage, if one ends in the mode that would be wanted.

        Args:
            job: as it was offered; its modalities are those that it has.
            ahead_s: work before each worker.
            now_ns: the time.
            steps: in how many uploads the tensors may come.

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
        staged = modes.staged(job, mode, left_s) if steps > 1 else None
        if staged:
            mode = staged.first
        spent_s = staged.both_s if staged else mode.latency_s if fitting else least_s
        until_ns = now_ns + to_ns(min(left_s - spent_s, LONGEST_HOLD_S))
        name = f"{job.id}-{secrets.token_hex(8)}"
        column = staged.column if staged else None
        return self._keep(Held(name, job, mode.modalities, until_ns, to_ns(mode.latency_s), column))

    def hold_on(self, held: Held, first: First, job: Job, now_ns: int) -> Held | None:
        """Hold the place of an offer on, for what its unsure requests need besides; None if no time is left.

        Args:
            held: the offer, whose place was let go.
            first: what its first stage left.
            job: of the unsure requests.
            now_ns: the time.
        """
        modes = self._modes[job.model]
        here, last = (modes.option(mode, job) for mode in (first.column.first, first.column.last))
        left_s = to_s(job.deadline_ns - now_ns) - last.latency_s
        if left_s <= 0:
            return None
        wanted = tuple(name for name in last.modalities if name not in here.modalities)
        until_ns = now_ns + to_ns(min(left_s, LONGEST_HOLD_S))
        return self._keep(Held(held.id, job, wanted, until_ns, to_ns(last.latency_s), first=first))

    def put_back(self, held: Held) -> None:
        """Hold a place that was let go just now as if it had not been."""
        self._keep(held)

    def _keep(self, held: Held) -> Held:
        self._held[held.id] = held
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

    def let_go(self, name: str, until_ns: int | None = None) -> Held | None:
        """Hold a place no longer; None if it was not held, or for another time than `until_ns`, if given."""
        held = self._held.get(name)
        if held is None or until_ns not in (None, held.until_ns):
            return None
        del self._held[name]
        self._work_ns -= held.work_ns
        return held


def told(held: Held, model: Model, now_ns: int) -> dict[str, object]:
    """Return what a client is told of a place that is held; `requests` are those of which more is wanted."""
    wanted = [modality for modality in model.modalities if modality.name in held.wanted]
    found: dict[str, object] = {
        "model_name": held.job.model,
        "offer": held.id,
        "modalities": [modality.name for modality in wanted],
        "inputs": [tensor.name for modality in wanted for tensor in modality.inputs],
        "hold_ms": 1000 * to_s(held.until_ns - now_ns),
    }
    return found if held.first is None else {**found, "requests": held.first.rows}


def check_upload(held: Held, parameters: Mapping[str, object]) -> None:
    """Check that an upload names its offer and says nothing else.

    Raises:
        InputError: it has further parameters.
    """
    found = {key: value for key, value in parameters.items() if key != OFFER}
    tenant = found.pop("tenant", held.job.tenant)
    if found or tenant != held.job.tenant:
        raise InputError(
            f"parameter {next(iter(found), 'tenant')!r}: an offer's own parameters stand; leave it out"
        )


def after(
    held: Held, inputs: Mapping[str, NDArray[Any]], answer: Answer, steps: Steps, offers: Offers, now_ns: int
) -> Answer | Held:
    """Return the answer to an offered job after one of its steps; or its place, held on for the next."""
    if held.first is not None:
        return steps.together(held.first, answer, now_ns)
    assert held.column is not None
    if answer.outputs is None:
        return Answer(replace(answer.receipt, job=held.job), None)
    first = steps.judge(held.job, held.column, inputs, answer)
    if not first.unsure:
        return steps.sure(first)
    further = offers.hold_on(held, first, steps.last_job(first), now_ns)
    return further or steps.as_it_is(first, None, now_ns)


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


@dataclass(frozen=True, slots=True)
class _Staged:
    """A cascade, its first stage, and how long a job takes in both if all its requests are unsure."""

    column: CascadeColumn
    first: _Option
    both_s: float


class _Modes:
    """What each mode of a model takes for a job of any size."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._accuracy = accuracies(profile)
        self._latency_ns = latency_table(profile)
        self._columns = cascade_columns(profile, self._accuracy)

    def option(self, mode: int, job: Job) -> _Option:
        """Return what a job needs, gets and takes in a mode."""
        modalities = self._profile.modes[mode].modalities
        return _Option(modalities, float(self._accuracy[mode]), self._latency_s(mode, job))

    def staged(self, job: Job, mode: _Option, left_s: float) -> _Staged | None:
        """Return the most accurate cascade that reaches a job's SLO and ends in the modalities of a mode.

        None if there is none that leaves time for both stages.
        """
        found = [
            (column, self.option(column.first, job), self.option(column.last, job))
            for column in self._columns
            if column.accuracy >= job.accuracy_slo - ACCURACY_TOLERANCE
        ]
        able = [
            _Staged(column, first, first.latency_s + last.latency_s)
            for column, first, last in found
            if last.modalities == mode.modalities and first.latency_s + last.latency_s < left_s
        ]
        return max(able, key=lambda staged: staged.column.accuracy, default=None)

    def reaching(self, job: Job) -> list[_Option]:
        """Return the modes that reach the job's SLO by themselves, the fastest first.

        Raises:
            InputError: there is none.
        """
        held = frozenset(job.modalities or self._profile.modalities)
        usable = [
            self.option(index, job)
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
