"""Models that are placed anew beside the jobs of a live server."""

import time
from collections.abc import Sequence

import pytest

from mosel.core.errors import UsageError
from mosel.core.types import Job
from mosel.online.placed import Beside
from mosel.online.placement import Placement, Placer, Variant
from tests.online.test_moving import FITS_ONE, A, B, placer, shifting, sized


def result(beside: Beside, jobs: Sequence[Job]) -> list[str]:
    """Ask until it is known; returns the models of each worker."""
    end_s = time.monotonic() + 30
    while (found := beside(jobs, 2.0)) is None:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    return ["".join(own) for own in found]


def test_it_is_asked_until_it_is_known() -> None:
    """A thread works meanwhile; what devices hold already counts."""
    beside = Beside(placer())
    jobs = shifting(400)
    assert beside(jobs[:800], 2.0) is None
    first = result(beside, jobs[:800])
    assert sorted(first) == ["a", "a", "a", "b"]
    second = result(beside, jobs[800:])
    assert sorted(second) == ["a", "b", "b", "b"]
    assert sum(one != other for one, other in zip(first, second, strict=True)) == 2
    beside.close()


def test_where_none_is_found_all_stays() -> None:
    """Say, for jobs of no known model's."""

    class Helpless(Placer):
        def place(self, _jobs: Sequence[Job], _duration_s: float) -> Placement:
            raise UsageError("no")

    helpless = Helpless([sized(A, 3), sized(B, 3)], [FITS_ONE])
    helpless.begin_with([[Variant(name, "float32")] for name in "abab"])
    beside = Beside(helpless)
    assert result(beside, shifting()) == ["a", "b", "a", "b"]
    beside.close()


def test_what_devices_hold_has_to_be_of_the_profiles() -> None:
    """One for each device, of models that have a profile."""
    with pytest.raises(UsageError, match="3 workers are placed; expected one for each device"):
        placer().begin_with([[], [], []])
    with pytest.raises(UsageError, match="c@float32 is placed, but no profile is of it"):
        placer().begin_with([[], [], [], [Variant("c", "float32")]])
