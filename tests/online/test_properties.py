"""What holds for any workload in a world in which every batch takes exactly what its profile says."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.core.states import State
from mosel.core.types import Job
from mosel.online.policies import POLICIES, Options
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, World, job, profile, world

CURVED = profile(
    {"text": (0.6, 3, 1), "audio": (0.8, 4, 3), "text+audio": (0.85, 5, 4), "text+audio+video": (0.95, 9, 8)},
    sizes=(1, 2, 4, 8),
    batch_limit={"text+audio+video": 4},
)
PLAIN = profile()
MODALITIES = ((), ("text",), ("audio",), ("text", "audio"))


def workload(seed: int, count: int, gap_ms: float, table_is_curved: bool) -> list[Job]:
    """Jobs of all sorts: shared deadlines, tight and loose ones, missing modalities, more than one batch."""
    rng = np.random.default_rng(seed)
    jobs: list[Job] = []
    at = 0.0
    for i in range(count):
        at += float(rng.choice([0, rng.exponential(2 * gap_ms)]))
        slo = float(rng.uniform(0.55, 0.97) if table_is_curved else rng.uniform(0.6, 0.82))
        due = round(at + float(rng.choice([15, 40, 90, 200])), -1) + 10
        has = MODALITIES[rng.integers(0, 4)] if table_is_curved and rng.random() < 0.3 else ()
        jobs.append(job(f"j{i}", int(rng.integers(1, 12)), slo, at=at, due=due, modalities=has))
    return jobs


def ran(
    seed: int, policy: str, workers: int, lead_ms: float = 0, curved: bool = True
) -> tuple[World, list[Job]]:
    """Run a workload at about capacity through a policy."""
    table = CURVED if curved else PLAIN
    jobs = workload(seed, 40, (12 if curved else 60) / workers, curved)
    options = Options(lead_ns=round(lead_ms * MS))
    found = Scheduler({"m": table}, workers=workers, policy=policy, seed=seed, options=options)
    return world(found, [table], jobs, workers).run(), jobs


EXACT_WORLDS = given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(list(POLICIES)),
    workers=st.integers(1, 3),
    lead_ms=st.sampled_from([0, 1, 30]),
    curved=st.booleans(),
)


@settings(max_examples=120, deadline=None)
@EXACT_WORLDS
def test_what_holds_in_an_exact_world(
    seed: int, policy: str, workers: int, lead_ms: float, curved: bool
) -> None:
    """One outcome a job, each request once, SLOs met, modes that the job can run in; late only under `none`."""
    found, jobs = ran(seed, policy, workers, lead_ms, curved)
    assert found.receipts.keys() == {each.id for each in jobs}
    assert found.scheduler.live == found.scheduler.queued == 0
    table = CURVED if curved else PLAIN
    accuracy = dict(zip(table.mode_names, (mode.accuracy for mode in table.modes), strict=True))
    gained: Counter[str] = Counter()
    seen: Counter[tuple[str, int]] = Counter()
    for batch, _, _ in found.batches:
        for part in batch.parts:
            gained[part.job] += accuracy[batch.mode] * len(part.requests)  # type: ignore[assignment]
            seen.update((part.job, request) for request in part.requests)
            has = found.receipts[part.job].job.modalities
            assert not has or set(batch.mode.split("+")) <= set(has)
    assert not seen or max(seen.values()) == 1
    for receipt in found.receipts.values():
        name, requests = receipt.job.id, receipt.job.requests
        if receipt.outcome in (State.SERVED, State.LATE):
            assert all((name, request) in seen for request in range(requests))
            assert gained[name] >= receipt.job.accuracy_slo * requests - 1e-9
            assert receipt.accuracy == pytest.approx(gained[name] / requests)
            assert sum(run.requests for run in receipt.batches) == requests
        assert receipt.outcome is not State.LATE or policy == "none"
        assert receipt.outcome is not State.FAILED
        assert receipt.outcome is not State.DROPPED or policy != "none"


@settings(max_examples=40, deadline=None)
@EXACT_WORLDS
def test_the_same_events_give_the_same_run(
    seed: int, policy: str, workers: int, lead_ms: float, curved: bool
) -> None:
    """A scheduler has no clock and no chance of its own: a second one does the same, batch by batch."""
    once, _ = ran(seed, policy, workers, lead_ms, curved)
    again, _ = ran(seed, policy, workers, lead_ms, curved)
    assert once.batches == again.batches
    assert once.receipts == again.receipts


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(["random", "aggressive", "paper", "optimized"]))
def test_a_second_worker_does_not_make_things_worse(seed: int, policy: str) -> None:
    """The same jobs on two workers: at least nearly as many requests on time as on one."""
    shares = []
    for workers in (1, 2):
        jobs = workload(seed, 40, 12, True)
        found = Scheduler({"m": CURVED}, workers=workers, policy=policy, seed=seed)
        shares.append(world(found, [CURVED], jobs, workers).run().share(State.SERVED))
    assert shares[1] >= shares[0] - 0.1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(list(POLICIES)), step_ms=st.sampled_from([0.3, 7]))
def test_extra_ticks_change_nothing(seed: int, policy: str, step_ms: float) -> None:
    """A driver that wakes the scheduler far too often gets the same outcomes, decided at the same times.

    `random` draws lots at every decision with a violation, but a tick without a free worker is none.
    """
    jobs = workload(seed, 20, 12, True)
    runs = []
    for ticks in (False, True):
        found = world(Scheduler({"m": CURVED}, policy=policy, seed=3), [CURVED], jobs)
        if ticks:
            for k in range(100):
                found.tick_at(round((k + 0.5) * step_ms * MS))
        runs.append(found.run())
    assert runs[0].receipts == runs[1].receipts
    assert runs[0].batches == runs[1].batches
