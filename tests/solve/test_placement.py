"""Which variants live on which devices."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mosel.core.errors import UsageError
from mosel.solve.placement import Demand, Held, Mode, Problem, place, sets_of

INF = float("inf")


def problem(seed: int, devices: tuple[int, ...] = (2, 1)) -> Problem:
    """Three models, one of them at two precisions, on two kinds of devices."""
    rng = np.random.default_rng(seed)
    models = (0, 1, 1, 2)
    modes = tuple(
        Mode(
            variant, float(rng.uniform(0.5, 1)), tuple(float(c) for c in rng.uniform(0.001, 0.02, len(devices)))
        )
        for variant in range(len(models))
        for _ in range(2)
    )
    demands = tuple(
        Demand(model, float(rng.uniform(10, 200)), float(rng.uniform(0.3, 0.7))) for model in (0, 1, 2)
    )
    sizes = rng.uniform(1, 3, (len(models), len(devices)))
    return Problem(devices, [4.0] * len(devices), sizes, models, modes, demands)


def served(found: Problem, held: list[tuple[int, Held]]) -> float:
    """Return by a linear programme of its own how much accuracy a second these devices can serve."""
    columns = [
        (device, mode, number)
        for device, (kind, own) in enumerate(held)
        for mode in found.modes
        for number, demand in enumerate(found.demands)
        if mode.variant in own and found.models[mode.variant] == demand.model
    ]
    if not columns:
        return 0.0
    rows, limits = [], []
    for number, demand in enumerate(found.demands):
        rows.append([float(n == number) for _, _, n in columns])
        limits.append(demand.rate_rps)
        rows.append([(demand.needed - mode.accuracy) * (n == number) for _, mode, n in columns])
        limits.append(0.0)
    for device, (kind, _) in enumerate(held):
        rows.append([mode.cost_s[kind] * (d == device) for d, mode, _ in columns])
        limits.append(found.room)
    best = linprog([-mode.accuracy for _, mode, _ in columns], rows, limits)
    return float(-best.fun)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_placement_is_better(seed: int) -> None:
    """Every way to give each device a set that its memory holds is tried: none serves more accuracy."""
    found = problem(seed)
    kinds = [kind for kind, count in enumerate(found.devices) for _ in range(count)]
    every = itertools.product(*(sets_of(found, kind) for kind in kinds))
    best = max(served(found, list(zip(kinds, held, strict=True))) for held in every)
    total = sum(demand.rate_rps for demand in found.demands)
    placed = place(found)
    mine = served(found, [(kind, held) for kind, own in enumerate(placed.held) for held in own])
    assert mine >= best - 0.002 * total
    assert placed.effective_accuracy == pytest.approx(mine / total, abs=0.002)


def test_memory_is_kept_and_filled() -> None:
    """No device holds more than its memory, nor less than it could."""
    found = problem(3)
    for kind in range(2):
        for held in sets_of(found, kind):
            left = found.memory[kind] - sum(found.sizes[v, kind] for v in held)
            assert left >= 0
            assert all(found.sizes[v, kind] > left for v in set(range(4)) - held)


def test_devices_stay_as_they_are_where_nothing_is_gained() -> None:
    """Solved again with what devices hold now, the same demands move nothing."""
    found = problem(5, (6, 4))
    once = place(found)
    again = Problem(
        found.devices, found.memory, found.sizes, found.models, found.modes, found.demands, 1.0, once.held
    )
    assert place(again).held == once.held


def test_a_model_that_fits_nowhere_is_refused() -> None:
    """The message says so."""
    found = problem(1)
    sizes = found.sizes.copy()
    sizes[0] = INF
    with pytest.raises(UsageError, match="fits on no device"):
        place(Problem(found.devices, found.memory, sizes, found.models, found.modes, found.demands))
