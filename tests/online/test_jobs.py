import pytest

from mosel.core.states import Reason, State
from mosel.core.types import Batch, BatchRun, Part
from mosel.online.jobs import LiveJob, Progress, run_of
from mosel.online.tables import ModelTable, Strategy
from tests.online.driver import MS, job, profile

TABLE = ModelTable(profile())
AUDIO, VIDEO, BOTH = range(3)
RUN = BatchRun(7, 0, "audio", 3, 0, 20 * MS)


def live(requests: int = 3, slo: float = 0.67) -> LiveJob:
    """A queued job."""
    progress = Progress(job("a", requests, slo), TABLE.every_mask, list(range(requests)))
    found = LiveJob(progress, TABLE, 0)
    progress.sides["this"] = found
    found.look_up()
    progress.move(State.QUEUED)
    return found


def test_requests_are_taken_and_given_back_in_order() -> None:
    """Credit and modes follow, to the last request; what comes back waits in its old place."""
    found = live()
    assert found.take(2, BOTH) == (0, 1)
    assert (found.waiting, found.progress.running, found.progress.modes) == ([2], 2, {"audio+video": 2})
    assert found.needed == pytest.approx(0.67 * 3 - 1.6)
    found.give_back((0, 1), BOTH)
    assert (found.waiting, found.progress.running, found.progress.modes) == ([0, 1, 2], 0, {})
    assert found.needed == pytest.approx(0.67 * 3)
    assert found.progress.state is State.RUNNING


def test_what_is_left_of_a_strategy_stays_in_force() -> None:
    """After its next batch the rest remains; after any other batch nothing does."""
    found = live()
    found.strategy = Strategy(((BOTH, 1), (AUDIO, 2)), 100 * MS, 0.8 + 1.34)
    found.take(1, BOTH)
    assert found.strategy is not None
    assert (found.strategy.batches, found.strategy.latency_ns) == (((AUDIO, 2),), 40 * MS)
    assert found.strategy.accuracy == pytest.approx(1.34)
    found.take(1, AUDIO)
    assert found.strategy is None


def test_strategies_make_up_for_what_earlier_batches_missed() -> None:
    """A job at SLO 0.735 that ran one of two requests in audio needs both modalities for the other."""
    found = live(2, 0.735)
    found.take(1, AUDIO)
    found.look_up()
    assert found.cheapest.batches == ((BOTH, 1),)
    found.take(1, BOTH)
    assert found.progress.is_done is False
    found.progress.settle((0, 1), RUN)
    receipt = found.progress.finish(50 * MS)
    assert receipt.accuracy == pytest.approx(0.735)
    assert receipt.batches[0].requests == 2


def test_what_just_reaches_the_slo_still_does_when_part_of_it_has_run() -> None:
    """However the remaining sum is rounded, a strategy that was good enough when chosen stays so."""
    for steps in range(60):
        slo = (0.67 * 2 + 0.70 + 0.80) / 4 + 5e-10 / 4 - steps * 1e-17
        found = live(4, slo)
        assert found.reachable
        for mode in (BOTH, VIDEO, AUDIO, AUDIO):
            if not found.reachable:  # only this order would do
                pytest.fail("what is left is out of reach")
            found.take(1, mode)
            found.look_up()
        found.progress.settle((0, 1, 2, 3), RUN)
        assert found.progress.finish(0).outcome is State.SERVED


def test_what_one_kind_of_worker_runs_is_planned_anew_by_the_others() -> None:
    """A job has one progress and a strategy for each kind; the rest of the one that ran stays in force."""
    found = live()
    other = LiveJob(found.progress, ModelTable(profile(scale=2)), 0)
    found.progress.sides["other"] = other
    found.strategy = Strategy(((BOTH, 1), (AUDIO, 2)), 100 * MS, 0.8 + 1.34)
    other.strategy = Strategy(((AUDIO, 3),), 120 * MS, 2.01)
    found.take(1, BOTH)
    assert found.strategy is not None
    assert other.strategy is None
    assert (other.waiting, other.needed) == (found.waiting, found.needed)
    found.give_back((0,), BOTH)
    assert found.strategy is None


def test_a_job_is_in_time_alone_up_to_its_deadline() -> None:
    """Five requests take a batch of three and one of two: 100 ms on one worker, 60 on two."""
    found = live(5)
    assert found.in_time(1, 900 * MS)
    assert not found.in_time(1, 900 * MS + 1)
    assert found.in_time(2, 940 * MS)
    assert not found.in_time(2, 940 * MS + 1)


def test_a_change_of_state_that_the_table_does_not_allow_is_a_bug() -> None:
    """An outcome is final."""
    found = live()
    found.progress.end(State.DROPPED, Reason.CANCELLED, "", 0)
    with pytest.raises(AssertionError, match="dropped to served"):
        found.progress.move(State.SERVED)


def test_a_batch_is_said_to_resume_what_it_did_resume() -> None:
    """Where its worker no longer had the features, it ran whole, whatever it was sent to do."""
    parts = (Part("a", (0, 1)), Part("b", (0,)))
    batch = Batch(3, 0, "m", "audio+video", 0, parts, 1, resumed="audio", resumes=(True, False, True))
    assert run_of(batch, 0, 1).resumed == (("audio", 2),)
    assert run_of(batch, 0, 1, whole=True).resumed == ()
