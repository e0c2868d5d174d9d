"""That serving leaves nothing for the collector of cyclic garbage, whose pauses grow with what is alive."""

import gc

import pytest

from mosel.online.events import Arrived, Finished
from mosel.online.policies import POLICIES
from tests.online.driver import MS, dispatched, job, scheduler, told

JOBS = 20


@pytest.mark.usefixtures("collected_by_hand")
@pytest.mark.parametrize("policy", POLICIES)
def test_a_job_with_an_outcome_is_freed_at_once(policy: str) -> None:
    """Whether it was served or refused, no cycle of references keeps it."""
    found = scheduler(policy)
    for number in range(JOBS):
        at = 1000 * number
        served, refused = job(f"a{number}", 2, at=at, due=at + 1000), job(f"b{number}", slo=0.9)
        actions = told(found, Arrived(served), Arrived(refused), at=at)
        while batches := dispatched(actions):
            actions = told(found, Finished(batches[0].id, 20 * MS), at=at + 30)
        if not number:
            gc.collect()  # what is made once, for the first job
    assert found.live == 0
    assert gc.collect() == 0
