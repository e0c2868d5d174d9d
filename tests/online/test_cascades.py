from collections import Counter

import pytest
from msgspec.structs import replace

from mosel.core.states import Reason, State
from mosel.core.types import Batch, BatchRun, Job
from mosel.online.amortised import Amortised
from mosel.online.columns import LeftOut
from mosel.online.events import (
    Action,
    Arrived,
    Corrupt,
    Finished,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.jobs import LiveJob, Progress
from mosel.online.policies import POLICIES, Policy
from mosel.online.policies.base import cheapest
from mosel.online.scheduler import Scheduler
from mosel.online.stages import Stages
from mosel.online.tables import ModelTable
from mosel.online.unsure import Promise, Ways, judged
from mosel.solve.cover import cheapest_batches
from tests.online.cascaded import COLUMN, FULL, LAST, MIDDLE, cascaded, escalate, hesitate
from tests.online.driver import MS, completed, dispatched, job, receipt_of, told

PROFILE = cascaded()
TABLE = ModelTable(PROFILE)
SURE, UNSURE = 0.9, 0.3


@pytest.fixture(autouse=True)
def _policies(monkeypatch: pytest.MonkeyPatch) -> None:
    for policy in (escalate, hesitate):
        monkeypatch.setitem(POLICIES, policy.__name__, Policy(policy, first=cheapest, least=cheapest))


def scheduler(policy: str = "escalate", workers: int = 1) -> Scheduler:
    """A scheduler whose workers are ready at 0."""
    found = Scheduler({"m": PROFILE}, workers=workers, policy=policy)
    assert found.handle([WorkerReady(worker) for worker in range(workers)], 0) == []
    return found


def only(actions: list[Action]) -> Batch:
    """The one batch that was sent."""
    (batch,) = dispatched(actions)
    return batch


def sent(
    slo: float = 0.95, policy: str = "escalate", requests: int = 1, due: float = 60
) -> tuple[Scheduler, Batch]:
    """A scheduler that has sent a job in the cascade; at SLO 0.95 the first stage would not be enough."""
    found = scheduler(policy)
    batch = only(told(found, Arrived(job("a", requests, slo, due=due))))
    assert (batch.mode, batch.judged) == (MIDDLE, True)
    return found, batch


def test_a_sure_answer_is_done_and_counts_the_cascade() -> None:
    """The dear modality is never asked for."""
    found, batch = sent()
    receipt = receipt_of(told(found, Finished(batch.id, 5 * MS, confidence=(SURE,)), at=5))
    assert (receipt.outcome, receipt.modes) == (State.SERVED, ((MIDDLE, 1),))
    assert receipt.accuracy == pytest.approx(0.985)


def test_an_unsure_answer_waits_for_the_next_stage() -> None:
    """It runs again, in the last stage's mode, and counts as often as its last stage."""
    found, batch = sent(requests=2)
    actions = told(found, Finished(batch.id, 7 * MS, confidence=(UNSURE, SURE)), at=7)
    again = only(actions)
    assert (again.mode, again.judged, again.parts[0].requests) == (FULL, False, (0,))
    receipt = receipt_of(told(found, Finished(again.id, 15 * MS), at=22))
    assert dict(receipt.modes) == {MIDDLE: 1, FULL: 1}
    assert receipt.accuracy == pytest.approx(0.985)
    assert [run.mode for run in receipt.batches] == [MIDDLE, FULL]


@pytest.mark.parametrize("confidence", [(), (float("nan"),)])
def test_without_a_confidence_a_request_is_unsure(confidence: tuple[float, ...]) -> None:
    """What is promised is kept, whatever the model says."""
    found, batch = sent()
    again = only(told(found, Finished(batch.id, 5 * MS, confidence=confidence), at=5))
    assert again.mode == FULL


def test_what_is_no_longer_possible_is_answered_if_the_slo_holds() -> None:
    """A job whose first stage is enough is answered with what it has once its next stage would be late."""
    found, batch = sent(0.85, "hesitate", due=30)
    told(found, Finished(batch.id, 5 * MS, confidence=(UNSURE,)), at=5)
    assert completed(told(found, Tick(), at=15)) == []
    receipt = receipt_of(told(found, Tick(), at=15.1))
    assert (receipt.outcome, receipt.modes) == (State.SERVED, ((MIDDLE, 1),))
    assert receipt.accuracy == pytest.approx(0.9)


def test_a_tick_is_asked_for_while_an_answer_may_still_get_better() -> None:
    """The next stage takes 15 ms at the least, so that is when a job due at 60 ms is answered."""
    found, batch = sent(0.85, "hesitate")
    actions = told(found, Finished(batch.id, 5 * MS, confidence=(UNSURE,)), at=5)
    assert [action.at_ns for action in actions if isinstance(action, WakeAt)] == [45 * MS + 1]


def test_a_promise_that_cannot_be_kept_is_not_answered() -> None:
    """An unsure answer would miss the SLO: the job is given up, and told so."""
    found, batch = sent(due=21)
    receipt = receipt_of(told(found, Finished(batch.id, 5 * MS, confidence=(UNSURE,)), at=12))
    assert (receipt.outcome, receipt.reason) == (State.DROPPED, Reason.NO_TIME_LEFT)


def test_answers_outlive_the_worker_that_ran_again() -> None:
    """A batch that was lost in the last stage leaves the first stage's answer where it was."""
    found, batch = sent(due=90)
    again = only(told(found, Finished(batch.id, 5 * MS, confidence=(UNSURE,)), at=5))
    assert dispatched(told(found, WorkerLost(0, "gone"), at=6)) == []
    third = only(told(found, WorkerReady(0), at=7))
    assert (third.mode, third.parts) == (again.mode, again.parts)
    receipt = receipt_of(told(found, Finished(third.id, 15 * MS), at=30))
    assert (receipt.outcome, receipt.modes) == (State.SERVED, ((FULL, 1),))


def test_a_request_that_cannot_be_decoded_further_keeps_its_answer() -> None:
    """Without the last stage's modality an answer that is enough goes out; one that is not fails the job."""
    found, batch = sent(due=90)
    again = only(told(found, Finished(batch.id, 5 * MS, confidence=(UNSURE,)), at=5))
    broken = Finished(again.id, 15 * MS, (Corrupt("a", 0, "video", "bad"),))
    receipt = receipt_of(told(found, broken, at=20))
    assert (receipt.outcome, receipt.reason) == (State.FAILED, Reason.BAD_INPUT)


def test_a_job_that_lacks_the_last_modality_never_enters_the_cascade() -> None:
    """Only columns within its modalities are strategies for it."""
    found = scheduler("joint")
    batch = only(told(found, Arrived(job("a", 1, 0.89, due=60, modalities=("text", "audio")))))
    assert (batch.mode, batch.judged) == (MIDDLE, False)


def test_the_end_answers_what_may_be_answered() -> None:
    """At shutdown an answer that meets the SLO is not thrown away; one that does not is."""
    for slo, outcome in ((0.85, State.SERVED), (0.95, State.DROPPED)):
        found, batch = sent(slo, "hesitate")
        told(found, Finished(batch.id, 5 * MS, confidence=(UNSURE,)), at=5)
        assert receipt_of(told(found, Shutdown(), at=6)).outcome is outcome


def test_policies_of_the_paper_know_no_cascades() -> None:
    """`paper`, `none` and the others run single modes."""
    for policy in ("none", "none+batching", "random", "aggressive", "paper"):
        found = scheduler(policy)
        assert not only(told(found, Arrived(job("a", 2, 0.95, due=100)))).judged


def test_what_requests_count_is_right_in_the_mean() -> None:
    """However many escalations are left out, the counts add up to what the answers are worth.

    With a share s left out the worth is A − s·(A − a): each leaves a where the whole would have given A.
    """
    column = TABLE.cascades[1]
    left_out = LeftOut()
    for _ in range(20_000):
        left_out.note("m", column.name, left_out=True)
        left_out.note("m", column.name, left_out=False)
    promise = Promise(column, 0.9, optional=True)
    sure, none = judged(promise, SURE, TABLE, left_out)
    whole, held = judged(promise, UNSURE, TABLE, left_out)
    assert none is None
    assert held is not None
    assert (held.kept, held.carried) == (0.9, whole)
    counted = 0.85 * sure + 0.15 * (held.kept + held.carried) / 2
    assert counted == pytest.approx(0.96 - 0.5 * (0.96 - 0.9), abs=1e-4)


def test_leaving_out_a_promised_escalation_costs_what_it_would_have_added() -> None:
    """At confidence 0.25 an answer is right in 0.4 of cases, and in 0.85 once escalated."""
    _, held = judged(Promise(TABLE.cascades[1], 0.9, optional=False), 0.25, TABLE, LeftOut())
    assert held is not None
    assert held.gain == pytest.approx(0.45)
    assert held.kept == pytest.approx(0.96 - 0.45)
    assert held.carried == 0.96


def test_of_a_job_as_many_escalate_as_its_slo_needs_first() -> None:
    """Those that gain most come first, and some may be left out while the mean still holds."""
    live = LiveJob(Progress(job("a", 8, 0.91), TABLE.every_mask, list(range(8))), TABLE, 0)
    live.progress.sides["this"] = live
    live.progress.move(State.QUEUED)
    live.look_up()
    live.take(8, COLUMN)
    live.progress.settle(range(8), BatchRun(0, 0, MIDDLE, 8, 0, 1))
    Stages().settle(live, range(8), dict.fromkeys(range(8), SURE) | {1: 0.7, 2: 0.1})
    live.look_up()
    assert (live.waiting, live.first) == ([2, 1], 1)
    assert live.cheapest.batches == ((LAST, 1),)
    assert not live.progress.answerable
    assert live.take(1, LAST) == (2,)
    live.look_up()
    assert (live.waiting, live.first, live.grace_ns) == ([1], 0, 15 * MS)
    assert live.progress.answerable
    assert live.progress.modes == {MIDDLE: 7, FULL: 1}


def test_what_cascades_save_is_told_beside_the_cheapest_single_modes() -> None:
    """At SLO 0.95 one request would need the full mode; what its cascade does not need of that is saved."""
    shared = Amortised([TABLE])
    live = waiting(job("a", 1, 0.95), TABLE, shared)
    work_ns = int(shared.menu.work_ns[live.shared[0]])
    assert work_ns + shared.saved_ns(live) == pytest.approx(TABLE.unit_ns(LAST, 0), abs=1)
    assert shared.saved_ns(live) > 0
    single = ModelTable(replace(PROFILE, cascades=()))
    without = Amortised([single])
    assert without.saved_ns(waiting(job("a", 1, 0.95), single, without)) == 0
    assert shared.saved_ns(waiting(job("a", 40, 0.95), TABLE, shared)) > 0


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_escalations_of_any_number_are_the_fastest_batches(count: int) -> None:
    """However many are unsure, and of two cascades, each mode's requests run in the batches that end first."""
    lasts = [LAST if at % 3 else 1 for at in range(count)]
    ways = Ways(lasts, TABLE.latency_ns[:, 0])
    assert len(ways) == count + 1
    for at in {0, 1, count // 2, count}:
        assert Counter(lasts[:at]) == Counter(mode for mode, size in ways[at] for _ in range(size))
        took_ns = [int(TABLE.latency_ns[mode, 0, size]) for mode, size in ways[at]]
        best_ns = [
            cheapest_batches(TABLE.latency_ns[mode, 0], lasts[:at].count(mode))[0][-1] for mode in set(lasts)
        ]
        assert sum(took_ns) == ways.latency_ns[at] == sum(best_ns)
        assert max(took_ns, default=0) == ways.longest_ns[at]


def waiting(job: Job, table: ModelTable, shared: Amortised) -> LiveJob:
    """A job all of whose requests wait, with its options."""
    live = LiveJob(Progress(job, table.every_mask, list(range(job.requests))), table, 0)
    live.look_up()
    live.shared = shared.options_of(live)
    return live


def test_profiles_without_cascades_have_no_columns_but_modes() -> None:
    """Nothing is computed for them twice."""
    table = ModelTable(replace(PROFILE, cascades=()))
    assert table.safe_ns is table.latency_ns
    assert table.shared_ns is table.latency_ns
    assert table.wide is table.covers
