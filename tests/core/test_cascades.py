from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mosel.core.cascades import cascade_name
from mosel.core.errors import FileError
from mosel.core.tables import check_profile, read_profile, write_profile
from tests.online.cascaded import cascaded

PROFILE = cascaded()


def test_cascades_are_written_and_read_back(tmp_path: Path) -> None:
    """With lists where there were tuples, as for modes."""
    write_profile(PROFILE, tmp_path / "profile.json")
    found = read_profile(tmp_path / "profile.json").profile
    assert [one.name for one in found.cascades] == [one.name for one in PROFILE.cascades]
    assert found.cascades[0].calibration == PROFILE.cascades[0].calibration


def test_a_name_says_the_threshold_to_two_places_at_least() -> None:
    """More only where two would tell another threshold."""
    assert cascade_name("a", "a+b", 0.9) == "a>a+b@0.90"
    assert cascade_name("a", "a+b", 0.9572) == "a>a+b@0.9572"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": ("text", "smell")}, "`cascades[0].stages` names 'smell'; expected two of text, text+audio"),
        ({"stages": ("text+audio", "text")}, "expected a mode and one that has all its modalities and more"),
        ({"accuracy": 1.2}, "`cascades[0].accuracy` is 1.2; expected a number from 0 to 1"),
        ({"escalated": float("nan")}, "`cascades[0].escalated` is nan"),
        ({"threshold": float("inf")}, "`cascades[0].threshold` is inf"),
        ({"samples": 0}, "`cascades[0].samples` is 0"),
        (
            {"latency_s": ([1.0], [2.0])},
            "`cascades[0].latency_s[0]` differs; expected the latency_s of mode text",
        ),
        ({"calibration": ((0.5, 0.5, 0.9),)}, "`cascades[0].calibration` is 1 entries; expected two or more"),
        ({"calibration": ((0.5, 0.5, 0.9), (0.6, 0.5, 1.9))}, "expected accuracies from 0 to 1"),
        ({"resumed_s": [0.001]}, "`cascades[0].resumed_s` has 1 entries; expected 3, as the mode of the last"),
        ({"resumed_s": [0.001, 0.002, -1.0]}, "`cascades[0].resumed_s` has -1.0; expected seconds ≥ 0"),
        ({"name": PROFILE.cascades[1].name}, "`cascades` names a cascade twice"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    """The error names the key and what was expected."""
    wrong = replace(PROFILE, cascades=(replace(PROFILE.cascades[0], **change), *PROFILE.cascades[1:]))
    with pytest.raises(FileError) as error:
        check_profile(wrong, "p.json")
    assert said in str(error.value)
