from collections import Counter

import numpy as np
import pytest

from mosel.evaluation.chaos.campaign import PER_SEED, draw
from mosel.evaluation.chaos.faults import ENDS, FAULTS, IN_FLEETS
from mosel.evaluation.chaos.jobs import Tally
from mosel.evaluation.chaos.server import Metrics, Setup, profile
from mosel.models.faulty import Fault, Faulty

FLEET = Setup(workers=2, groups=2, front_doors=2)

AT_DOORS = """
mosel_jobs_total{group="0",model="faulty",outcome="served"} 4.0
mosel_refused_calls_total{group="0",error="RefusedError"} 1.0
mosel_door_answered_total{outcome="served"} 40.0
mosel_door_answered_total{outcome="failed"} 1.0
mosel_door_answered_total{outcome="late"} 0.0
mosel_door_refused_total 3.0
mosel_door_gone_total 2.0
"""

EXPOSITION = """
# TYPE mosel_jobs_total counter
mosel_jobs_total{model="faulty",outcome="served"} 40.0
mosel_jobs_total{model="faulty",outcome="dropped"} 2.0
mosel_refused_calls_total{error="RefusedError"} 3.0
mosel_lost_workers_total 1.0
mosel_worker_state{state="ready",worker="0"} 1.0
mosel_worker_state{state="starting",worker="0"} 0.0
mosel_worker_state{state="ready",worker="1"} 0.0
mosel_worker_state{state="starting",worker="1"} 1.0
"""


def test_every_fault_comes_often_enough() -> None:
    """In 200 seeds each is brought about 20 times or more, whatever the seed of the whole."""
    for seed in range(5):
        for setup, names in ((Setup(), {*FAULTS}), (FLEET, {*FAULTS, *IN_FLEETS})):
            counts = Counter(fault for faults in draw(200, seed, setup) for fault in faults)
            assert set(counts) == names
            assert min(counts.values()) >= 20


def test_short_campaigns_that_follow_one_another_bring_all_faults() -> None:
    """As one long one does: no kind comes twice as often as another."""
    counts = Counter(fault for seed in range(10) for faults in draw(2, seed, FLEET) for fault in faults)
    assert set(counts) == {*FAULTS, *IN_FLEETS}
    assert max(counts.values()) - min(counts.values()) <= 1 + PER_SEED


def test_what_ends_a_server_comes_last_and_once() -> None:
    """After it nothing could be brought about."""
    for faults in draw(200, 1):
        assert not any(fault in ENDS for fault in faults[:-1])


def test_the_same_seed_draws_the_same_faults() -> None:
    """And another seed others."""
    assert draw(30, 4) == draw(30, 4) != draw(30, 5)


def test_metrics_are_read_as_a_tally() -> None:
    """Calls that became no job count as rejected."""
    metrics = Metrics(EXPOSITION)
    assert metrics.tally() == Counter(served=40, dropped=2, rejected=3)
    assert metrics.total("mosel_lost_workers_total") == 1
    assert metrics.ready_workers() == 1


def test_front_doors_count_for_their_groups() -> None:
    """A group that was started anew counts from 0; who went away dropped his job."""
    assert Metrics(AT_DOORS).tally() == Counter(served=40, failed=1, rejected=3, dropped=2)


def test_what_a_door_answered_may_be_torn_off() -> None:
    """Of connections that ended with a door so many answers more may be counted, and none else."""
    tally = Tally(sent=4, answered=Counter(served=2), broken=2)
    assert tally.problems(Counter(served=4), torn=True) == []
    assert tally.problems(Counter(served=4)) != []
    assert tally.problems(Counter(served=5), torn=True) != []


def test_an_even_tally_has_no_problems() -> None:
    """Clients that went away may be counted as anything by the server, or not at all."""
    tally = Tally(sent=6, answered=Counter(served=3), broken=1, gone=2)
    assert tally.outcomes() == Counter(served=3, failed=1, dropped=2)
    for server in (Counter(served=3, dropped=2), Counter(served=4), Counter(served=3)):
        assert tally.problems(server) == []


@pytest.mark.parametrize(
    ("tally", "server", "problem"),
    [
        (Tally(sent=2, answered=Counter(served=1)), None, "2 sent"),
        (Tally(sent=1, missing=1), None, "1 jobs got no answer"),
        (Tally(sent=1, answered=Counter(served=1), wrong=1), None, "not theirs"),
        (Tally(sent=1, answered=Counter(served=1)), Counter(served=2), "the server counts"),
        (Tally(sent=1, answered=Counter(served=1)), Counter(late=1), "the server counts"),
        (Tally(sent=2, answered=Counter(served=1), gone=1), Counter(served=3), "the server counts"),
    ],
)
def test_what_does_not_come_out_even_is_told(tally: Tally, server: Counter[str] | None, problem: str) -> None:
    """A job too few or too many, on either side, or an answer that went astray."""
    assert any(problem in found for found in tally.problems(server))


def test_the_faulty_model_does_as_it_is_asked() -> None:
    """It raises, lacks memory, answers NaN for one request alone, or in a wrong shape."""
    function = Faulty()

    def run(*asked: tuple[float, float, float]) -> list[float]:
        found: list[float] = function(text=np.array(asked, np.float32)).tolist()
        return found

    assert run((5, Fault.NONE, 0), (6, Fault.NONE, 0)) == [5, 6]
    assert np.isnan(run((5, Fault.NAN, 0), (6, Fault.NONE, 0))).tolist() == [True, False]
    assert function(text=np.array([[1, Fault.SHAPE, 0]], np.float32)).shape == (1, 1)
    with pytest.raises(ValueError, match="asked to raise"):
        run((5, Fault.RAISE, 0))
    assert run((5, Fault.MEMORY, 1)) == [5]
    with pytest.raises(MemoryError):
        run((5, Fault.MEMORY, 1), (6, Fault.NONE, 0))


def test_the_profile_is_the_faulty_model_s() -> None:
    """Every mode at every batch size, as it waits."""
    found = profile()
    assert found.mode_names == ("text", "text+sound")
    assert found.modes[1].latency_s[3] == pytest.approx(0.008)
