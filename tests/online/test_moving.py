"""Models that move between workers while jobs run."""

from collections.abc import Sequence

import msgspec
import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.states import State
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.evaluation.simulate import Conditions, Outage, Simulated, simulate
from mosel.evaluation.workload import Workload
from mosel.online.events import (
    Arrived,
    Finished,
    Reload,
    Retired,
    Scheduling,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
    WorkerRetiring,
)
from mosel.online.fleet import Fleet
from mosel.online.layout import Layout
from mosel.online.moving import Moving, Pace, Profiles
from mosel.online.placement import Devices, Placer, restricted
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, completed, dispatched, job, profile, receipt_of, scheduler, told

A, B = profile(model="a", scale=0.1), profile(model="b", scale=0.1)
BOTH = {"a": A, "b": B}
FITS_ONE = Devices("none", 4, 4.0)
"""Devices whose memory holds one of the two models: the made-up profiles take 1 byte a mode."""

PACE = Pace(to_ns(0.2), to_ns(0.05))


def shifting(rate: float = 200, seconds: float = 4) -> tuple[Job, ...]:
    """Jobs of which nearly all are of model a at first, and of model b from the middle on."""
    count = round(rate * seconds)
    return tuple(
        job(
            f"j{n}",
            2,
            0.7,
            at=1000 * n / rate,
            due=1000 * n / rate + 300,
            model="ab"[(n % 10 != 0) == (n >= count // 2)],
        )
        for n in range(count)
    )


def sized(table: Profile, bytes_: int) -> Profile:
    """The same profile, of which each mode takes so much memory."""
    modes = tuple(msgspec.structs.replace(m, memory_bytes=[bytes_] * len(m.memory_bytes)) for m in table.modes)
    return msgspec.structs.replace(table, modes=modes)


def placer() -> Placer:
    """Places the two models on four devices that hold one each."""
    return Placer([sized(A, 3), sized(B, 3)], [FITS_ONE])


def placed(jobs: Sequence[Job], seconds: float) -> list[Profiles]:
    """Each worker's profiles for these jobs."""
    return [dict(worker.profiles) for worker in placer().place(jobs, seconds).workers]


def moved(found: Scheduling, start: Sequence[Profiles]) -> Moving:
    """The scheduler with models that move."""
    again = placer()
    return Moving(found, start, lambda jobs, s: [dict(w.profiles) for w in again.place(jobs, s).workers], PACE)


def simulated(found: Scheduling, jobs: tuple[Job, ...], *outages: Outage) -> Simulated:
    """Run jobs on four devices, each of which could run either model."""
    return simulate(found, {"a": sized(A, 3), "b": sized(B, 3)}, Workload(jobs), Conditions(4, outages=outages))


def share(done: Simulated) -> float:
    """The share of the jobs that were served."""
    return sum(row.outcome is State.SERVED for row in done.jobs) / len(done.jobs)


def test_models_follow_the_load() -> None:
    """When the load turns from one model to the other, so do workers, and far more is served than without."""
    jobs = shifting(400)
    start = placed(jobs[: len(jobs) // 2], 2)
    assert sorted("".join(own) for own in start) == ["a", "a", "a", "b"]
    still = simulated(Scheduler(BOTH, workers=start), jobs)
    moving = moved(Scheduler(BOTH, workers=start), start)
    done = simulated(moving, jobs)
    assert moving.moves >= 2
    assert share(done) > share(still) + 0.1


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_no_job_is_dropped_for_a_move(groups: int) -> None:
    """At a load that leaves time, every job is served while models move, also if a group is a single worker."""
    jobs = shifting(100)
    start = placed(jobs[:200], 2)
    found: Scheduling = (
        Scheduler(BOTH, workers=start)
        if groups == 1
        else Fleet(BOTH, workers=start, layout=Layout(groups, 2, hop_ns=100_000))
    )
    moving = moved(found, start)
    done = simulated(moving, jobs)
    assert moving.moves >= 1
    assert {row.outcome for row in done.jobs} == {State.SERVED}


@pytest.mark.parametrize("groups", [1, 2])
def test_workers_may_be_lost_while_models_move(groups: int) -> None:
    """Outages before, in and after moves: one outcome a job (`simulate` asserts it), and most are served."""
    jobs = shifting(150)
    start = placed(jobs[:300], 2)
    found: Scheduling = (
        Scheduler(BOTH, workers=start) if groups == 1 else Fleet(BOTH, workers=start, layout=Layout(groups))
    )
    outages = [Outage(w, to_ns(2.15 + 0.06 * w), to_ns(2.6 + 0.1 * w)) for w in range(3)]
    done = simulated(moved(found, start), jobs, *outages)
    assert share(done) > 0.6


def test_a_driver_is_asked_to_load() -> None:
    """Without a time to load, `Reload` comes once a worker has drained; it is up when the driver says so."""
    start: list[Profiles] = [{"a": A}, {"a": A, "b": B}]
    asked: list[int] = []

    def resolve(jobs: Sequence[Job], _seconds: float) -> list[Profiles] | None:
        asked.append(len(jobs))
        return None if len(asked) < 3 else [{"b": B}, {"a": A, "b": B}]

    moving = Moving(Scheduler(BOTH, workers=start), start, resolve, Pace(to_ns(0.2), None))
    moving.handle([WorkerReady(0), WorkerReady(1)], 0)
    (batch,) = dispatched(moving.handle([Arrived(job("j", 1, 0.7, at=190, model="a"))], 190 * MS))
    later = moving.handle([Arrived(job("k", 1, 0.7, at=200, due=9000, model="b"))], 200 * MS)
    assert asked == [2]
    assert WakeAt(250 * MS) in later
    moving.handle([Finished(batch.id, 1)], 210 * MS)
    moving.handle([Tick()], 250 * MS)
    assert Reload(0, {"b": B}) in moving.handle([Tick()], 300 * MS)
    assert asked == [2, 2, 2]
    moving.handle([WorkerReady(0)], 900 * MS)
    assert moving.moves == 1
    later = moving.handle([Arrived(job(f"b{n}", 4, 0.7, at=900, model="b")) for n in range(4)], 900 * MS)
    assert 0 in {batch.worker for batch in dispatched(later)}


def test_a_worker_that_cannot_be_loaded_keeps_nobody_from_moving() -> None:
    """It is lost; the rest goes on, and moves when the load changes again."""
    start: list[Profiles] = [{"a": A}, {"a": A}]
    wanted: list[list[Profiles]] = [[{"b": B}, {"a": A}], [{"b": B}, {"a": A, "b": B}]]
    moving = Moving(Scheduler(BOTH, workers=start), start, lambda *_: wanted.pop(0), Pace(to_ns(0.2), None))
    moving.handle([WorkerReady(0), WorkerReady(1)], 0)
    assert Reload(0, {"b": B}) in moving.handle([Arrived(job("j", 1, 0.7, at=200, model="b"))], 200 * MS)
    moving.handle([WorkerLost(0, "no room")], 300 * MS)
    assert moving.handle([Arrived(job("k", 1, 0.7, at=500, model="a"))], 500 * MS)
    assert not wanted
    assert not moving.moves


def test_a_worker_that_retires_ends_what_it_has() -> None:
    """It gets nothing more, its batch counts, and only then it may be stopped."""
    found = scheduler(workers=2)
    batches = dispatched(told(found, Arrived(job("a", 1, 0.8)), Arrived(job("b", 1, 0.8))))
    assert {batch.worker for batch in batches} == {0, 1}
    assert Retired(0) not in told(found, WorkerRetiring(0), at=1)
    later = told(found, Arrived(job("c", 1, 0.67)), at=2)
    assert not dispatched(later)
    done = told(found, Finished(batches[0].id, 1), at=240)
    assert receipt_of(done).outcome is State.SERVED
    assert Retired(0) in done
    assert all(batch.worker == 1 for batch in dispatched(told(found, Finished(batches[1].id, 1), at=241)))


def test_an_idle_worker_may_be_stopped_at_once() -> None:
    """And it takes work again when it is ready again."""
    found = scheduler(workers=1)
    assert told(found, WorkerRetiring(0)) == [Retired(0)]
    assert not dispatched(told(found, Arrived(job("a")), at=1))
    assert dispatched(told(found, WorkerReady(0), at=2))


def test_jobs_that_no_worker_can_serve_any_more_are_told() -> None:
    """What waits for a model that leaves the last worker is dropped, and what comes is refused."""
    found = Scheduler(BOTH, workers=[{"a": A}])
    told(found, Arrived(job("first", model="a")))
    told(found, WorkerReady(0, {"b": B}), at=1)
    assert found.live == 0
    found = Scheduler(BOTH, workers=[{"a": A}, {"b": B}])
    told(found, WorkerReady(0), WorkerReady(1, {"a": A}))
    receipt = receipt_of(told(found, Arrived(job("late", model="b")), at=2))
    assert receipt.outcome is State.REJECTED
    assert "no worker has model b now" in receipt.detail
    with pytest.raises(UsageError, match="worker 0 is given model 'm'"):
        told(found, WorkerReady(0, {"m": profile()}), at=3)


def test_a_profile_of_some_precisions_keeps_its_modes_names() -> None:
    """Batches are named as in the whole profile, so that a worker that has all of it can run them."""
    halves = tuple(
        msgspec.structs.replace(
            mode, precision=precision, accuracy=mode.accuracy - (precision == "float16") / 100
        )
        for precision in ("float32", "float16")
        for mode in A.modes
    )
    whole = msgspec.structs.replace(A, modes=halves)
    assert restricted(whole, {"float32", "float16"}) is whole
    for precision in ("float32", "float16"):
        part = restricted(whole, {precision})
        assert part.mode_names == tuple(name for name in whole.mode_names if name.endswith(precision))
        assert {part.precision_of(mode) for mode in part.modes} == {precision}


def test_completions_are_told_while_a_worker_loads() -> None:
    """The wrapper lets everything but its own moves through."""
    moving = moved(Scheduler(BOTH, workers=[BOTH] * 4), [BOTH] * 4)
    for worker in range(4):
        moving.handle([WorkerReady(worker)], 0)
    [batch] = dispatched(moving.handle([Arrived(job("j", model="a"))], MS))
    assert completed(moving.handle([Finished(batch.id, 1)], 5 * MS))[0].outcome is State.SERVED
