"""Which variants live on which devices: a mixed integer programme, solved by HiGHS.

A variant is a model at a precision. Devices of a kind are alike, so what is chosen is how many of them hold
which *set* of variants; only sets count that memory holds and that no further variant fits beside. Requests of
a class (a model and an accuracy) are spread over the modes of what is there, as long as devices have time:

    maximise   Σ accuracy · y                       requests a second, each counted with its accuracy
    such that  Σ y ≤ rate                           of each class
               Σ (accuracy − needed) · y ≥ 0        of each class: SLOs hold in the mean, as modes may be mixed
               Σ cost · y ≤ room · z                of the devices of a kind that hold a set
               Σ z = devices                        of each kind; z whole

A device that need not change what it holds is preferred, among placements that are all but equal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from mosel.core.errors import UsageError

Floats = NDArray[np.float64]
Held = frozenset[int]
"""The variants that a device holds."""

MOST_SETS = 4000
GAP = 1e-4
STAY = 1e-3
"""What a device that stays as it is counts for, as a part of all requests, shared by all devices."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A class of requests: of which model, how many a second, and the mean accuracy that they need."""

    model: int
    rate_rps: float
    needed: float


@dataclass(frozen=True, slots=True)
class Mode:
    """A mode of a variant, and what a request costs on each kind of device; infinite where it cannot run."""

    variant: int
    accuracy: float
    cost_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be placed.

    Attributes:
        devices: how many there are of each kind.
        memory: what each of them holds, by kind, in bytes.
        sizes: of shape (variants, kinds), what each variant takes of it; infinite where it cannot live.
        models: the model of each variant.
        modes: of all variants.
        demands: the classes of requests.
        room: which part of a device's time may be planned with.
        now: what devices of each kind hold already.
    """

    devices: Sequence[int]
    memory: Sequence[float]
    sizes: Floats
    models: Sequence[int]
    modes: Sequence[Mode]
    demands: Sequence[Demand]
    room: float = 1.0
    now: Sequence[Sequence[Held]] = field(default=())


@dataclass(frozen=True, slots=True)
class Placed:
    """What each device of each kind holds, and the accuracy that a request is expected to count for."""

    held: tuple[tuple[Held, ...], ...]
    effective_accuracy: float


def place(problem: Problem, limit_s: float = 10.0) -> Placed:
    """Return the best placement that is found in time.

    Raises:
        UsageError: a demand is of a model that fits on no device, or there are too many sets to look at.
    """
    _check(problem)
    programme = _Programme(problem)
    return programme.solve(limit_s)


def sets_of(problem: Problem, kind: int) -> list[Held]:
    """Return the sets of variants that fill the memory of a kind of device: none fits beside them any more."""
    able = [v for v in range(len(problem.sizes)) if problem.sizes[v, kind] <= problem.memory[kind]]
    found: list[Held] = []
    for held in _filled(problem.sizes[:, kind], able, problem.memory[kind], 0, ()):
        found.append(frozenset(held))
        if len(found) > MOST_SETS:
            raise UsageError(
                f"more than {MOST_SETS:,} sets of variants fit into {problem.memory[kind]:,.0f} bytes; "
                "expected fewer models and precisions, or less memory: place them in parts"
            )
    return found or [frozenset()]


def _filled(
    sizes: Floats, able: list[int], left: float, at: int, held: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    if at == len(able):
        rest = [sizes[v] for v in able if v not in held]
        if not rest or min(rest) > left:
            yield held
        return
    if sizes[able[at]] <= left:
        yield from _filled(sizes, able, left - sizes[able[at]], at + 1, (*held, able[at]))
    yield from _filled(sizes, able, left, at + 1, held)


def _check(problem: Problem) -> None:
    fits = np.any(problem.sizes <= np.asarray(problem.memory), axis=1).tolist()
    for demand in problem.demands:
        if not any(fits[v] for v, model in enumerate(problem.models) if model == demand.model):
            raise UsageError(f"model number {demand.model} fits on no device; expected one with more memory")


class _Programme:
    """The columns (flows y, then counts z, then devices that stay) and rows of the programme."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._sets = [(kind, held) for kind in range(len(problem.devices)) for held in sets_of(problem, kind)]
        self._flows = [
            (at, mode, number)
            for at, (kind, held) in enumerate(self._sets)
            for mode in problem.modes
            if mode.variant in held and np.isfinite(mode.cost_s[kind])
            for number, demand in enumerate(problem.demands)
            if problem.models[mode.variant] == demand.model
        ]
        now = problem.now or [[] for _ in problem.devices]
        self._stays = [min(list(now[kind]).count(held), problem.devices[kind]) for kind, held in self._sets]

    def solve(self, limit_s: float) -> Placed:
        """Let HiGHS find it."""
        flows, sets = len(self._flows), len(self._sets)
        total = sum(demand.rate_rps for demand in self._problem.demands) or 1.0
        devices = sum(self._problem.devices)
        gain = np.concatenate(
            [
                [mode.accuracy for _, mode, _ in self._flows],
                np.zeros(sets),
                np.full(sets, STAY * total / devices),
            ]
        )
        upper = np.concatenate(
            [np.full(flows, np.inf), [self._problem.devices[kind] for kind, _ in self._sets], self._stays]
        )
        whole = np.concatenate([np.zeros(flows), np.ones(sets), np.zeros(sets)])
        found = milp(
            -gain,
            integrality=whole,
            bounds=Bounds(0, upper),
            constraints=self._rows(),
            options={"time_limit": limit_s, "mip_rel_gap": GAP},
        )
        if found.x is None:
            raise UsageError(f"HiGHS found no placement in {limit_s:g} s; expected fewer models or devices")
        counts = np.rint(found.x[flows : flows + sets]).astype(int)
        served = float(np.dot(gain[:flows], found.x[:flows]))
        return Placed(self._held(counts), served / total)

    def _rows(self) -> LinearConstraint:
        demands, sets = len(self._problem.demands), len(self._sets)
        first_set, first_stay = len(self._flows), len(self._flows) + sets
        entries: list[tuple[int, int, float]] = []
        for column, (at, mode, number) in enumerate(self._flows):
            entries.append((number, column, 1.0))
            entries.append((demands + number, column, mode.accuracy - self._problem.demands[number].needed))
            entries.append((2 * demands + at, column, mode.cost_s[self._sets[at][0]]))
        kinds = 2 * demands + sets
        for at, (kind, _) in enumerate(self._sets):
            entries.append((2 * demands + at, first_set + at, -self._problem.room))
            entries.append((kinds + kind, first_set + at, 1.0))
            entries.append((kinds + len(self._problem.devices) + at, first_stay + at, 1.0))
            entries.append((kinds + len(self._problem.devices) + at, first_set + at, -1.0))
        rates = [demand.rate_rps for demand in self._problem.demands]
        count = np.asarray(self._problem.devices, float)
        low = np.concatenate([np.full(demands, -np.inf), np.zeros(demands), np.full(sets, -np.inf), count])
        high = np.concatenate([rates, np.full(demands, np.inf), np.zeros(sets), count])
        low, high = np.append(low, np.full(sets, -np.inf)), np.append(high, np.zeros(sets))
        rows, columns, values = (np.array(each) for each in zip(*entries, strict=True))
        matrix = coo_array((values, (rows, columns)), shape=(len(low), first_stay + sets))
        return LinearConstraint(matrix.tocsr(), low, high)

    def _held(self, counts: NDArray[np.int_]) -> tuple[tuple[Held, ...], ...]:
        """Give each device its set; one that holds it already first."""
        now = self._problem.now or [[] for _ in self._problem.devices]
        found = []
        for kind, devices in enumerate(self._problem.devices):
            left = [
                held
                for (of, held), count in zip(self._sets, counts, strict=True)
                for _ in range(count)
                if of == kind
            ]
            mine: list[Held | None] = [None] * devices
            for device, held in enumerate(now[kind][:devices]):
                if held in left:
                    mine[device] = held
                    left.remove(held)
            rest = iter(left)
            found.append(tuple(next(rest) if held is None else held for held in mine))
        return tuple(found)
