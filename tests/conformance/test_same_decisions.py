"""The live engine and the simulator give the same decisions for the same events."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mosel.core.clock import to_s
from mosel.core.states import OUTCOMES
from mosel.core.types import Batch, Receipt
from mosel.evaluation import simulate as simulation
from mosel.evaluation.workload import Workload
from mosel.online.events import Action, Complete, Dispatch, Entry, Event
from mosel.online.layout import Layout
from mosel.online.policies import POLICIES
from tests.conformance.worlds import Lived, Outage, Scenario, by_engine, by_heap, jobs, profile

S = 1_000_000_000

SMOOTH = (
    Scenario("steady", jobs(1, 120, 40)),
    Scenario("no lead", jobs(1, 120, 60), lead_ns=0),
    Scenario("bursty", jobs(2, 120, 60, burst=8)),
    Scenario("overload", jobs(3, 200, 400)),
    Scenario("several workers", jobs(4, 200, 250), workers=3),
    Scenario("missing modalities", jobs(5, 120, 80, partial=True)),
    Scenario("worker lost and back", jobs(6, 200, 150), workers=2, outages=(Outage(0, S // 5, S // 2),)),
    Scenario("only worker lost", jobs(6, 100, 100), outages=(Outage(0, S // 5 + 7, S // 2),)),
    Scenario("groups", jobs(12, 200, 300), workers=4, layout=Layout(2, 3)),
    Scenario(
        "a group lost and back",
        jobs(13, 200, 300),
        workers=3,
        layout=Layout(3, 2, hop_ns=200_003),
        outages=(Outage(0, S // 5 + 7, S // 2), Outage(1, S // 4 + 7, S // 2 + 9)),
    ),
    Scenario(
        "two models",
        jobs(7, 150, 100, models=("m", "n")),
        profiles={"m": profile("m"), "n": profile("n", 0.3)},
    ),
)

ROUGH = (
    Scenario("failing batches", jobs(8, 120, 60), fails=lambda batch: batch.id % 5 == 3),
    Scenario("every batch fails", jobs(8, 40, 60), fails=lambda _: True),
    Scenario("corrupt modalities", jobs(9, 120, 60), corrupts=lambda batch: batch.id % 4 == 1),
    Scenario(
        "cancellations",
        jobs(10, 120, 120),
        cancels=tuple((job.arrival_ns + 9_000_011, job.id) for job in jobs(10, 120, 120)[::3]),
    ),
    Scenario(
        "all at once",
        jobs(11, 200, 150, partial=True, models=("m", "n")),
        profiles={"m": profile("m"), "n": profile("n", 0.5)},
        workers=2,
        outages=(Outage(1, S // 4, S // 3), Outage(0, S // 2, S // 2 + S // 10)),
        cancels=tuple((job.arrival_ns + 12_000_013, job.id) for job in jobs(11, 200, 150)[::7]),
        fails=lambda batch: batch.id % 11 == 3,
        corrupts=lambda batch: batch.id % 13 == 5,
    ),
)


BY_NAME = {scenario.name: scenario for scenario in (*SMOOTH, *ROUGH)}


@functools.cache
def lived(name: str) -> Lived:
    """Run a scenario in the live engine; once for all tests, for nothing changes the result."""
    return by_engine(BY_NAME[name])


@functools.cache
def heaped(name: str) -> list[Entry]:
    """Run a scenario over a bare heap; once for all tests."""
    return by_heap(BY_NAME[name])


def test_a_scenario_runs_the_same_every_time() -> None:
    """The live engine in virtual time leaves nothing to chance: two runs have the same journal."""
    assert by_engine(BY_NAME["all at once"]).journal == lived("all at once").journal


@pytest.mark.parametrize("name", ["bursty", "all at once"])
def test_decisions_beside_the_event_loop_are_the_same(name: str) -> None:
    """Where a decision is made changes nothing of what it is told, nor of what it asks for."""
    assert by_engine(BY_NAME[name], long_ns=-1).journal == lived(name).journal


@pytest.mark.parametrize("scenario", SMOOTH, ids=lambda s: s.name)
def test_the_engine_decides_as_the_simulator_does(scenario: Scenario) -> None:
    """Batches (id, worker, mode, parts), their starts and finishes, and all receipts are the same."""
    recorded: list[Entry] = []
    simulation.simulate(
        _Recorder(scenario, recorded),
        scenario.profiles,
        Workload(scenario.jobs),
        simulation.Conditions(
            workers=scenario.workers,
            outages=tuple(simulation.Outage(o.worker, o.from_ns, o.to_ns) for o in scenario.outages),
        ),
    )
    journal = lived(scenario.name).journal
    assert _batches(journal) == _batches(recorded)
    assert _receipts(journal) == _receipts(recorded)


@pytest.mark.parametrize("scenario", [*SMOOTH, *ROUGH], ids=lambda s: s.name)
def test_the_engine_tells_the_scheduler_what_a_bare_heap_tells_it(scenario: Scenario) -> None:
    """Call by call the events, their times and the actions are the same as without an event loop."""
    live, bare = lived(scenario.name).journal, heaped(scenario.name)
    for mine, theirs in zip(live, bare, strict=False):
        assert mine == theirs
    assert not _batches(live[len(bare) :])
    assert not _batches(bare[len(live) :])


@pytest.mark.parametrize("scenario", [*SMOOTH, *ROUGH], ids=lambda s: s.name)
def test_every_job_has_one_outcome_and_its_client_gets_it(scenario: Scenario) -> None:
    """Each job is completed exactly once, and what the client gets is that receipt."""
    found = lived(scenario.name)
    receipts = _receipts(found.journal)
    assert sorted(r.job.id for r in receipts) == sorted(job.id for job in scenario.jobs)
    cancelled = {job for _, job in scenario.cancels}
    for receipt in receipts:
        answer = found.answers[receipt.job.id]
        assert receipt.outcome in OUTCOMES
        assert answer.receipt == receipt if answer else receipt.job.id in cancelled


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_decides_alike_in_both(policy: str) -> None:
    """No policy can tell the live engine from a bare heap."""
    scenario = replace(SMOOTH[2], policy=policy)
    live, bare = by_engine(scenario).journal, by_heap(scenario)
    assert _batches(live) == _batches(bare)
    assert _receipts(live) == _receipts(bare)


def test_scenarios_are_no_idle_talk() -> None:
    """The scenarios bring about what they are for: late drops, refusals, lost and failed work, mixed modes."""
    seen = {r.reason for s in (*SMOOTH, *ROUGH) for r in _receipts(heaped(s.name))}
    modes = {mode for s in SMOOTH for _, batch in _batches(heaped(s.name)) for mode in [batch.mode]}
    assert len(modes) == 3
    assert {"on_time", "no_time_left", "worker_lost", "model_failed", "cancelled"} <= {str(r) for r in seen}
    assert to_s(SMOOTH[0].jobs[-1].arrival_ns) > 1


class _Recorder:
    """A scheduler that writes down what it is told and what it answers."""

    def __init__(self, scenario: Scenario, journal: list[Entry]) -> None:
        self._scheduler = scenario.scheduler()
        self._journal = journal

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take it down."""
        actions = self._scheduler.handle(events, now_ns)
        self._journal.append(Entry(tuple(events), now_ns, tuple(actions)))
        return actions


def _batches(journal: list[Entry]) -> list[tuple[int, Batch]]:
    return [(e.now_ns, action.batch) for e in journal for action in e.actions if isinstance(action, Dispatch)]


def _receipts(journal: list[Entry]) -> list[Receipt]:
    return [action.receipt for e in journal for action in e.actions if isinstance(action, Complete)]
