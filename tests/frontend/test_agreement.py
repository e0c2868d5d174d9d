import logging

import pytest

from mosel.core.tables import Profile
from mosel.frontend.agreement import LiveAgreement


def seen(profile: Profile, right: int, of: int, mode: str = "sound") -> LiveAgreement:
    """Return what is known once so many of so many answers agreed, evenly spread."""
    found = LiveAgreement([profile])
    for number in range(of):
        found.note("m", mode, float(number % (of // (of - right)) != 0) if right < of else 1.0)
    return found


def test_agreement_bounds_accuracy(profile: Profile) -> None:
    """It cannot differ from the best mode's by more than answers do, nor both be right where they differ."""
    entry = seen(profile, 150, 200).entry("m", "sound")
    assert entry is not None
    low, high = entry["low"], entry["high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert 0.68 < low < 0.75 < high < 0.81
    assert entry["mean"] == 0.75
    assert entry["accuracy_low"] == pytest.approx(0.9 - (1 - low))
    assert entry["accuracy_high"] == pytest.approx(1 - 0.9 + high)
    assert entry["holds"] is True
    assert LiveAgreement([profile]).entry("m", "sound") is None


def test_a_profile_beyond_the_bounds_is_told_once(profile: Profile, caplog: pytest.LogCaptureFixture) -> None:
    """Too much promised, and too little: an answer that is always the best mode's is as accurate."""
    for right, mode in ((100, "sound"), (400, "text")):
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            found = seen(profile, right, 400, mode)
        entry = found.entry("m", mode)
        assert entry is not None
        assert entry["holds"] is False, entry
        assert [record.getMessage().count(f"in mode {mode}") for record in caplog.records] == [1]
        assert found.count("m", mode) == 400
    assert seen(profile, 0, 99).entry("m", "sound")["holds"] is None  # type: ignore[index]
