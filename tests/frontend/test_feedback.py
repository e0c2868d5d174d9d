import logging

import numpy as np
import pytest

from mosel.core.tables import Profile
from mosel.frontend.feedback import KEPT_SCORES, LOOK_EVERY, LiveAccuracy, estimate

SEEDS = 2000


@pytest.mark.parametrize(
    ("right", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_s_interval(right: int, of: int, low: float, high: float) -> None:
    """Right and wrong answers have Wilson's interval; 81 of 263 is the example in Newcombe (1998)."""
    found = estimate([1.0] * right + [0.0] * (of - right))
    assert found.scores == of
    assert found[:3] == pytest.approx((right / of, low, high), abs=5e-5)


def test_scores_that_vary_less_have_a_narrower_interval() -> None:
    """Of many scores between 0 and 1 it is near the normal one; few leave it wide, however alike they are."""
    many = estimate([0.4, 0.6] * 500)
    assert many.low == pytest.approx(0.5 - 1.96 * 0.1 / 1000**0.5, abs=1e-4)
    assert estimate([0.3]).low < 0.2
    assert estimate([0.3]).high > 0.4
    alike = estimate([0.3] * 10)
    assert alike.low < 0.25 < 0.35 < alike.high


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_the_interval_holds_in_95_of_100(graded: bool, share: float) -> None:
    """Over many samples of a known mean, about 95% of the intervals contain it."""
    draws = np.random.default_rng(7)
    held = 0
    for _ in range(SEEDS):
        right = (draws.random(200) < share).astype(float)
        found = estimate((right * 0.5 + share * 0.5 if graded else right).tolist())
        held += found.low <= share <= found.high
    assert 0.93 < held / SEEDS < 0.975


def test_live_accuracy_is_that_of_late(profile: Profile) -> None:
    """The last scores count; what is known of a mode stands beside its profile, and of others nothing does."""
    live = LiveAccuracy([profile])
    for score in [0.0] * KEPT_SCORES + [1.0] * KEPT_SCORES:
        live.note("m", "sound", score)
    assert live.estimates()["m", "sound"].mean == 1.0
    assert live.estimates()["m", "sound"].scores == KEPT_SCORES
    text, sound, both = live.of_model("m")
    assert text == {
        "mode": "text", "profiled": 0.6, "live": None, "low": None, "high": None, "scores": 0, "holds": None,
    }  # fmt: skip
    assert (sound["profiled"], sound["live"], sound["holds"]) == (0.8, 1.0, True)
    assert both["mode"] == "text+sound"


def test_a_profile_that_no_longer_holds_is_told_once(
    profile: Profile, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes a good many scores; then the log says so once, and again only after it held meanwhile."""
    live = LiveAccuracy([profile])
    with caplog.at_level(logging.WARNING):
        for _ in range(LOOK_EVERY - 1):
            live.note("m", "sound", 0.0)
        assert live.of_model("m")[1]["holds"] is None
        assert not caplog.records
        for _ in range(3 * LOOK_EVERY):
            live.note("m", "sound", 0.0)
        assert live.of_model("m")[1]["holds"] is False
        assert "model m in mode sound is right in 0.000 of its last 100 answers" in caplog.text
        assert "profile says 0.800" in caplog.text
        for _ in range(KEPT_SCORES):
            live.note("m", "sound", 1.0)
        assert len(caplog.records) == 1
        for _ in range(KEPT_SCORES):
            live.note("m", "sound", 0.0)
        assert len(caplog.records) == 2


def test_a_profile_that_holds_is_not_doubted(profile: Profile, caplog: pytest.LogCaptureFixture) -> None:
    """As accurate as the profile says, or more so, no mode is told of."""
    live = LiveAccuracy([profile])
    with caplog.at_level(logging.WARNING):
        for turn in range(5 * LOOK_EVERY):
            live.note("m", "sound", float(turn % 5 > 0))
            live.note("m", "text", 1.0)
    assert not caplog.records
