import logging

import pytest

from mosel.core.types import Batch, Part
from mosel.online.drift import LOOK_BACK, Drift
from tests.online.driver import MS, profile

BATCH = Batch(1, 0, "m", "audio", 0, (Part("a", (0, 1)),), 1)
"""Two requests, which take 40 ms by the profile."""


def noted(drift: Drift, ratio: float, count: int = LOOK_BACK) -> None:
    """Let so many batches take so many times what they should."""
    for _ in range(count):
        drift.note(BATCH, round(ratio * 40 * MS))


@pytest.mark.parametrize("ratio", [1.25, 0.75])
def test_latencies_that_left_the_profile_are_told_once(caplog: pytest.LogCaptureFixture, ratio: float) -> None:
    """By how much, and what to do; again only after they were back."""
    drift = Drift([profile()])
    noted(drift, ratio, 3 * LOOK_BACK)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"model m in mode audio takes {ratio:.2f} times what its profile says" in caplog.text
    assert "mosel profile m --update" in caplog.text
    assert drift.ratios() == {("m", "audio"): ratio}
    noted(drift, 1.0)
    noted(drift, ratio)
    assert len(caplog.records) == 2


def test_a_spell_is_no_drift(caplog: pytest.LogCaptureFixture) -> None:
    """Neither few batches nor the lesser half of many, nor a little off for long."""
    drift = Drift([profile()])
    noted(drift, 3.0, LOOK_BACK - 1)
    assert drift.ratios() == {}
    drift = Drift([profile()])
    noted(drift, 1.0, LOOK_BACK)
    noted(drift, 3.0, LOOK_BACK // 2 - 1)
    noted(drift, 1.15, 2 * LOOK_BACK)
    assert caplog.records == []


def test_batches_too_short_to_judge_say_nothing() -> None:
    """Of a profile in microseconds no drift is found."""
    drift = Drift([profile(scale=1e-4)])
    noted(drift, 5.0)
    assert drift.ratios() == {}
