from collections import Counter

import numpy as np
import pytest

from mosel.evaluation.chaos.campaign import draw
from mosel.evaluation.chaos.faults import ENDS, FAULTS
from mosel.evaluation.chaos.jobs import Tally
from mosel.evaluation.chaos.server import Metrics, profile
from mosel.models.faulty import Fault, Faulty

EXPOSITION = """
# TYPE mosel_jobs_total counter
mosel_jobs_total{model="faulty",outcome="served"} 40.0
mosel_jobs_total{model="faulty",outcome="dropped"} 2.0
mosel_refused_calls_total{error="RefusedError"} 3.0
mosel_lost_workers_total 1.0
"""


def test_every_fault_comes_often_enough() -> None:
    """In 200 seeds each is brought about 20 times or more, whatever the seed of the whole."""
    for seed in range(5):
        counts = Counter(fault for faults in draw(200, seed) for fault in faults)
        assert set(counts) == set(FAULTS)
        assert min(counts.values()) >= 20


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
