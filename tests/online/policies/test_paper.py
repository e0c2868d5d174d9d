"""The paper's policies through the scheduler; times in ms."""

import pytest

from mosel.core.states import State
from mosel.online.events import (
    Arrived,
    Cancelled,
    Finished,
)
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, dispatched, job, profile, scheduler, told, world


@pytest.mark.parametrize("policy", ["paper", "optimized"])
def test_accuracy_is_restored_when_nothing_is_at_risk(policy: str) -> None:
    """A burst is served cheaply; the job after it, alone again, gets every modality."""
    table = profile()
    jobs = [job(f"b{i}", 1, 0.67, at=0, due=200) for i in range(8)] + [job("calm", at=300, due=900)]
    ran = world(Scheduler({"m": table}, policy=policy), [table], jobs).run()
    assert ran.share(State.SERVED) == 1
    assert ran.receipts["calm"].modes == (("audio+video", 1),)
    assert {mode for i in range(8) for mode, _ in ran.receipts[f"b{i}"].modes} > {"audio"}


def test_accuracy_is_restored_for_jobs_that_wait() -> None:
    """A job planned cheaply behind another gets all modalities once that other is gone."""
    for policy in ("paper", "optimized"):
        found = scheduler(policy)
        told(found, Arrived(job("x", due=60)))
        told(found, Arrived(job("a", due=141)), Arrived(job("b", due=150)), at=1)
        (batch,) = dispatched(told(found, Cancelled("a"), Finished(0, 60 * MS), at=60))
        assert (batch.parts[0].job, batch.mode) == ("b", "audio+video")


def test_aggressive_always_runs_the_cheapest() -> None:
    """Alone and with all the time there is, still the fastest strategy that meets the SLO."""
    found = scheduler("aggressive")
    (batch,) = dispatched(told(found, Arrived(job(slo=0.69, due=100_000))))
    assert batch.mode == "video"


def test_random_draws_only_as_many_jobs_as_needed() -> None:
    """Of six jobs one has to be quick: which one, the seed decides."""

    def drawn(seed: int) -> list[str]:
        table = profile()
        jobs = [job(f"j{i}", due=325) for i in range(6)]
        ran = world(Scheduler({"m": table}, policy="random", seed=seed), [table], jobs).run()
        assert ran.share(State.SERVED) == 1
        return [name for name in sorted(ran.receipts) if ran.receipts[name].modes == (("audio", 1),)]

    seen = [drawn(seed) for seed in range(8)]
    assert all(len(names) == 1 for names in seen)
    assert len({names[0] for names in seen}) > 1
    assert seen == [drawn(seed) for seed in range(8)]


def test_no_lots_are_drawn_without_a_violation() -> None:
    """Random keeps every modality while no deadline is at risk."""
    table = profile()
    ran = world(
        Scheduler({"m": table}, policy="random"), [table], [job(f"j{i}", due=400) for i in range(6)]
    ).run()
    assert {receipt.modes for receipt in ran.receipts.values()} == {(("audio+video", 1),)}


def test_the_example_of_figure_2() -> None:
    """Jobs 2 and 3 at time 20 with deadlines 140 and 150: both on time, worth 2.84, under `optimized`."""
    table = profile()
    jobs = [job("2", 2, 0.71, at=20, due=140), job("3", 2, 0.67, at=20, due=150)]
    ran = world(Scheduler({"m": table}, policy="optimized"), [table], jobs).run()
    assert ran.share(State.SERVED) == 1
    total = sum((receipt.accuracy or 0) * 2 for receipt in ran.receipts.values())
    assert total == pytest.approx(2.84)
    assert max(end for _, _, end in ran.batches) == 150 * MS
