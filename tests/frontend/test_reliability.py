import logging

import numpy as np
import pytest

from mosel.frontend.reliability import Judged, Reliability, expected
from tests.online.cascaded import CHEAP, MIDDLE, cascaded

PROFILE = cascaded()
WIDEST = PROFILE.cascades[2]
"""Begins with text+audio, at a threshold of 0.75 with 0.3 escalated: 0.985 in all."""


def scored(count: int, off: float = 0.0, seed: int = 0) -> Reliability:
    """As many scored answers of `MIDDLE`, each right as often as expected, less `off`."""
    found, rng = Reliability([PROFILE]), np.random.default_rng(seed)
    for _ in range(count):
        confidence = float(rng.random())
        judged = Judged(MIDDLE, confidence, confidence < 0.5)
        found.note("m", judged, float(rng.random() < expected(WIDEST, judged) - off))
    return found


def test_what_is_expected_of_an_answer() -> None:
    """Unsure answers have the calibration's share, as they are or escalated; sure ones what is left of it."""
    assert expected(WIDEST, Judged(MIDDLE, 0.25, False)) == pytest.approx(0.4)
    assert expected(WIDEST, Judged(MIDDLE, 0.25, True)) == pytest.approx(0.85)
    sure = expected(WIDEST, Judged(MIDDLE, 0.9, False))
    assert 0.7 * sure + 0.3 * 0.85 == pytest.approx(min(0.985, 0.7 + 0.3 * 0.85))


def test_bins_tell_expected_beside_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Where the calibration holds, each bin's interval holds what was expected, and nothing is said."""
    bins = scored(3000).of_model("m")
    assert sum(int(str(one["scores"])) for one in bins) == 3000
    assert [(one["escalated"], one["from"], one["to"]) for one in bins] == [
        (False, 0.25, 0.75),
        (False, 0.75, None),
        (True, None, 0.25),
        (True, 0.25, 0.75),
    ]
    assert all(one["holds"] for one in bins)
    assert not caplog.records


def test_a_calibration_that_no_longer_holds_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the mode, what is seen, what was expected, and what to do."""
    with caplog.at_level(logging.WARNING):
        found = scored(2000, off=0.15)
    (record,) = caplog.records
    assert f"begin with {MIDDLE} are right in 0." in record.getMessage()
    assert "no longer holds" in record.getMessage()
    assert "mosel profile m --exhaustive" in record.getMessage()
    assert False in [one["holds"] for one in found.of_model("m")]


def test_few_scores_are_no_verdict() -> None:
    """Under a hundred of a bin say neither that it holds nor that it does not."""
    assert {one["holds"] for one in scored(20).of_model("m")} == {None}


def test_what_is_not_known_is_left_out() -> None:
    """An answer without a confidence, of another model or of a mode that begins no cascade counts nowhere."""
    found = Reliability([PROFILE])
    found.note("m", Judged(MIDDLE, float("nan"), False), 1.0)
    found.note("m", Judged("video", 0.5, False), 1.0)
    found.note("other", Judged(CHEAP, 0.5, False), 1.0)
    assert found.of_model("m") == found.of_model("other") == []
