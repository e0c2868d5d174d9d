"""Which models and precisions live on which device, chosen from profiles for the requests that are expected.

The mathematics stands in `solve/placement.py`. A device is expected to run a request at its share of the best
batch that takes half of the latency SLO at most: the other half is for waiting. A variant takes the memory that
its largest such batch took, weights included, in the mode that needs most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from mosel.core.arrays import UNAVAILABLE, latency_table
from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.tables import Mode as ProfileMode
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.solve import placement
from mosel.solve.placement import Demand, Held, Mode, Problem

CLASSES = 4
"""Into so many classes of equal size each model's requests are sorted by accuracy SLO."""

WAITING = 2.0
"""A batch may take one over this of the latency SLO."""

Profiles = Mapping[str, Profile]


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices of a kind: its name as in the profiles, how many there are, and the memory of each in bytes."""

    name: str
    count: int
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A model at a precision."""

    model: str
    precision: str

    @property
    def name(self) -> str:
        """The variant in a word."""
        return f"{self.model}@{self.precision}"


@dataclass(frozen=True, slots=True)
class Worker:
    """A device, the variants that live on it, and the profiles that follow from it, by model."""

    device: str
    variants: tuple[Variant, ...]
    profiles: Profiles


@dataclass(frozen=True, slots=True)
class Placement:
    """What lives on every device, kind by kind, and what accuracy a request is expected to count for."""

    workers: tuple[Worker, ...]
    effective_accuracy: float


class Placer:
    """Places models on devices, again and again as the load changes; a device that need not change does not.

    Args:
        profiles: one for each model and kind of device that it may live on.
        devices: all there are.
        room: which part of the devices' time may be planned with.

    Raises:
        UsageError: two profiles are of the same model and device, or a device has none.
    """

    def __init__(self, profiles: Sequence[Profile], devices: Sequence[Devices], room: float = 0.9) -> None:
        if not 0 < room <= 1:
            raise UsageError(f"room {room}; expected a part of the devices' time, above 0 and at most 1")
        self._devices = devices
        self._profiles = _by_device(profiles, devices)
        self._models = sorted({profile.model for profile in profiles})
        self._variants = sorted(
            {Variant(profile.model, p) for profile in profiles for p in _precisions(profile)},
            key=lambda variant: variant.name,
        )
        self._room = room
        self._now: tuple[tuple[Held, ...], ...] = ()

    def begin_with(self, held: Sequence[Sequence[Variant]]) -> None:
        """Take over what devices hold, kind by kind in the order of the devices.

        Raises:
            UsageError: there are not as many, or a variant is of none of the profiles.
        """
        if len(held) != sum(each.count for each in self._devices):
            raise UsageError(f"{len(held)} workers are placed; expected one for each device")
        if unknown := {variant for own in held for variant in own} - set(self._variants):
            raise UsageError(
                f"{min(one.name for one in unknown)} is placed, but no profile is of it; give its profile too"
            )
        found, rest = [], [frozenset(map(self._variants.index, own)) for own in held]
        for each in self._devices:
            found.append(tuple(rest[: each.count]))
            rest = rest[each.count :]
        self._now = tuple(found)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """What lives on every device now."""
        return tuple(self._worker(kind, held) for kind, own in enumerate(self._now) for held in own)

    def place(self, jobs: Sequence[Job], duration_s: float) -> Placement:
        """Return the placement for jobs like these, so many of which come in so long.

        Raises:
            UsageError: there are no jobs, or one is of a model that fits on no device.
        """
        if not jobs or duration_s <= 0:
            raise UsageError("no jobs to place models for; expected a workload with some")
        demands = [demand for model in self._models for demand in self._demands(jobs, model, duration_s)]
        slos_ns = {
            model: min((j.deadline_ns - j.arrival_ns for j in jobs if j.model == model), default=to_ns(1.0))
            for model in self._models
        }
        modes, sizes = self._modes(slos_ns)
        found = placement.place(
            Problem(
                [each.count for each in self._devices],
                [each.memory_bytes for each in self._devices],
                sizes,
                [self._models.index(variant.model) for variant in self._variants],
                modes,
                demands,
                self._room,
                self._now,
            )
        )
        self._now = found.held
        return Placement(self.workers, found.effective_accuracy)

    def _demands(self, jobs: Sequence[Job], model: str, duration_s: float) -> list[Demand]:
        own = sorted((job.accuracy_slo, job.requests) for job in jobs if job.model == model)
        found = []
        for part in np.array_split(np.array(own, float), CLASSES) if own else ():
            if len(part):
                requests = float(part[:, 1].sum())
                needed = float(np.dot(part[:, 0], part[:, 1])) / requests
                found.append(Demand(self._models.index(model), requests / duration_s, needed))
        return found

    def _modes(self, slos_ns: Mapping[str, int]) -> tuple[list[Mode], "np.typing.NDArray[np.float64]"]:
        sizes = np.full((len(self._variants), len(self._devices)), np.inf)
        costs: dict[tuple[int, str, float], list[float]] = {}
        for kind, device in enumerate(self._devices):
            for profile in self._profiles[device.name].values():
                for name, mode, cost_s, memory in _rows(profile, slos_ns[profile.model] / WAITING):
                    number = self._variants.index(Variant(profile.model, profile.precision_of(mode)))
                    held = sizes[number, kind]
                    sizes[number, kind] = memory if np.isinf(held) else max(held, memory)
                    key = (number, name, mode.accuracy)
                    costs.setdefault(key, [np.inf] * len(self._devices))[kind] = cost_s
        return [Mode(number, accuracy, tuple(row)) for (number, _, accuracy), row in costs.items()], sizes

    def _worker(self, kind: int, held: Held) -> Worker:
        device = self._devices[kind].name
        variants = tuple(self._variants[number] for number in sorted(held))
        models = dict.fromkeys(variant.model for variant in variants)
        profiles = {
            model: restricted(
                self._profiles[device][model], {v.precision for v in variants if v.model == model}
            )
            for model in models
        }
        return Worker(device, variants, profiles)


def restricted(profile: Profile, precisions: set[str]) -> Profile:
    """Return a profile of some of its precisions; its modes keep their names."""
    every = _precisions(profile)
    if set(every) == precisions:
        return profile
    modes = tuple(
        msgspec.structs.replace(mode, precision=profile.precision_of(mode))
        for mode in profile.modes
        if profile.precision_of(mode) in precisions
    )
    names = {profile.name_of(mode) for mode in modes}
    cascades = tuple(cascade for cascade in profile.cascades if names.issuperset(cascade.stages))
    other = next(precision for precision in every if precision not in precisions)
    return msgspec.structs.replace(profile, modes=modes, precision=other, cascades=cascades)


def _by_device(profiles: Sequence[Profile], devices: Sequence[Devices]) -> dict[str, dict[str, Profile]]:
    found: dict[str, dict[str, Profile]] = {each.name: {} for each in devices}
    for profile in profiles:
        own = found.get(profile.device.name)
        if own is None:
            raise UsageError(
                f"the profile of {profile.model} is of device {profile.device.name!r}; "
                f"expected one of {', '.join(found)}: name its kind too, or leave the profile out"
            )
        if profile.model in own:
            raise UsageError(f"two profiles of {profile.model} are of device {profile.device.name!r}; give one")
        own[profile.model] = profile
    if bare := [name for name, own in found.items() if not own]:
        raise UsageError(f"no profile is of device {bare[0]!r}; give one, or leave the device out")
    return found


def _precisions(profile: Profile) -> tuple[str, ...]:
    return tuple(dict.fromkeys(profile.precision_of(mode) for mode in profile.modes))


def _rows(profile: Profile, most_ns: float) -> list[tuple[str, ProfileMode, float, float]]:
    """Each mode's name, the mode, what a request costs in seconds, and the memory that it takes.

    Of length buckets the longest counts. A mode that is too slow even for one request costs infinitely much.
    """
    table = latency_table(profile)[:, -1]
    found = []
    for index, (name, mode) in enumerate(zip(profile.mode_names, profile.modes, strict=True)):
        sizes = [
            s for s in profile.sizes_of(mode) if table[index, s] < UNAVAILABLE and table[index, s] <= most_ns
        ]
        cost_s = min((float(table[index, size]) / size / 1e9 for size in sizes), default=float("inf"))
        memory = dict(zip(profile.sizes_of(mode), profile.columns(mode.memory_bytes)[-1], strict=True))
        found.append((name, mode, cost_s, float(max((memory[s] for s in sizes), default=min(memory.values())))))
    return found
