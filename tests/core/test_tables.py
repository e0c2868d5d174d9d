import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosel.core import tables
from mosel.core.errors import FileError
from mosel.core.files import sha256

PROFILE: dict[str, Any] = {
    "format": "mosel.profile/1",
    "model": "tiny",
    "modalities": ["audio", "video"],
    "metric": "accuracy",
    "batch_sizes": [1, 2, 4],
    "modes": [
        {
            "modalities": ["audio"],
            "accuracy": 0.66,
            "accuracy_low": 0.64,
            "samples": 2000,
            "latency_s": [0.004, 0.007, 0.014],
            "latency_p99_s": [0.004, 0.008, 0.015],
            "memory_bytes": [1, 2, 4],
        },
        {
            "modalities": ["audio", "video"],
            "accuracy": 0.8,
            "accuracy_low": 0.78,
            "samples": 2000,
            "latency_s": [0.04, 0.07],
            "latency_p99_s": [0.04, 0.08],
            "memory_bytes": [10, 20],
            "batch_limit": 2,
            "measured": [True, False],
        },
    ],
    "device": {"name": "a test", "kind": "cpu"},
    "precision": "float32",
    "software": {"torch": "2.13.0"},
    "measured_at": "2026-11-22T00:00:00Z",
    "preprocess_s": {"video": 0.002},
    "extra": {"anything": [1, {"goes": None}]},
}

PLAN: dict[str, Any] = {
    "format": "mosel.plan/1",
    "model": "tiny",
    "profile_sha256": "ab",
    "frontiers": {
        "1": [{"accuracy": 0.66, "latency_s": 0.004, "batches": [["audio", 1]]}],
        "2@0": [
            {"accuracy": 0.66, "latency_s": 0.007, "batches": [["audio", 2]]},
            {"accuracy": 0.73, "latency_s": 0.044, "batches": [["audio", 1], ["audio+video", 1]]},
        ],
    },
}

Edit = Callable[[dict[str, Any]], Any]


def test_profile_reads_back_what_was_written(tmp_path: Path) -> None:
    """Writing a profile and reading it gives the same profile, and the hash is that of the file."""
    profile = decode(PROFILE)
    path = tmp_path / "profile.json"
    tables.write_profile(profile, path)
    found = tables.read_profile(path)
    assert found.profile == profile
    assert found.sha256 == sha256(path.read_bytes())


def test_profile_writes_only_the_public_keys(tmp_path: Path) -> None:
    """Optional keys that were not given are not written, and no key is renamed."""
    path = tmp_path / "profile.json"
    tables.write_profile(decode(PROFILE), path)
    assert json.loads(path.read_text()) == PROFILE


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_floats_are_written_unrounded(latency_s: list[float]) -> None:
    """Every float reads back as the same float."""
    given_profile = edited(PROFILE, lambda p: p["modes"][0].update(latency_s=latency_s))
    again = msgspec.json.encode(decode(given_profile))
    assert tables.decode_profile(again, "again").modes[0].latency_s == latency_s


def test_mode_names_carry_a_precision_only_where_there_are_several() -> None:
    """A mode's name is its modalities joined by +, with @precision when the profile has two precisions."""
    assert decode(PROFILE).mode_names == ("audio", "audio+video")
    several = edited(PROFILE, lambda p: p["modes"][1].update(precision="float16"))
    assert decode(several).mode_names == ("audio@float32", "audio+video@float16")


def test_mode_is_found_by_its_name() -> None:
    """`mode_named` returns the mode of that name and raises KeyError for any other."""
    profile = decode(PROFILE)
    assert profile.mode_named("audio+video") is profile.modes[1]
    with pytest.raises(KeyError):
        profile.mode_named("video")


def test_batch_limit_ends_the_column() -> None:
    """A mode with a batch limit was profiled for the batch sizes up to it, any other mode for all."""
    profile = decode(PROFILE)
    assert [profile.sizes_of(mode) for mode in profile.modes] == [(1, 2, 4), (1, 2)]


def test_length_buckets_make_lists_of_lists() -> None:
    """With length buckets each per-batch list is a list of such lists, one per bucket."""
    profile = decode(bucketed())
    assert profile.buckets == 2
    assert profile.columns(profile.modes[0].latency_s) == ((0.1, 0.2, 0.3), (0.2, 0.4, 0.6))
    assert decode(PROFILE).columns(PROFILE["modes"][0]["memory_bytes"]) == ((1, 2, 4),)


BAD_PROFILES: dict[str, tuple[Edit, str]] = {
    "unknown key": (lambda p: p.update(colour="red"), "colour"),
    "unknown key in a mode": (lambda p: p["modes"][0].update(colour="red"), "colour"),
    "missing key": (lambda p: p.pop("metric"), "metric"),
    "missing key in a mode": (lambda p: p["modes"][0].pop("samples"), "samples"),
    "wrong type": (lambda p: p.update(model=7), "model"),
    "model without a name": (lambda p: p.update(model=""), "model"),
    "other format": (lambda p: p.update(format="mosel.profile/2"), "mosel.profile/1"),
    "format of a plan": (lambda p: p.update(format="mosel.plan/1"), "mosel.profile/1"),
    "no modalities": (lambda p: p.update(modalities=[]), "modalities"),
    "modality twice": (lambda p: p.update(modalities=["audio", "audio"]), "modalities"),
    "no batch sizes": (lambda p: p.update(batch_sizes=[]), "batch_sizes"),
    "batch sizes not from 1": (lambda p: p.update(batch_sizes=[2, 3, 4]), "batch_sizes"),
    "batch sizes descend": (lambda p: p.update(batch_sizes=[1, 4, 2]), "batch_sizes"),
    "fractional batch size": (lambda p: p.update(batch_sizes=[1, 2, 2.5]), "batch_sizes"),
    "absurd batch size": (lambda p: p.update(batch_sizes=[1, 2, 10**9]), "expected 1,024 at most"),
    "no modes": (lambda p: p.update(modes=[]), "modes"),
    "mode twice": (lambda p: p["modes"].append(p["modes"][0]), "twice"),
    "mode of no modalities": (lambda p: p["modes"][0].update(modalities=[]), "modalities"),
    "mode of another modality": (lambda p: p["modes"][0].update(modalities=["smell"]), "smell"),
    "mode in another order": (lambda p: p["modes"][1].update(modalities=["video", "audio"]), "order"),
    "accuracy above 1": (lambda p: p["modes"][0].update(accuracy=1.01), "modes[0].accuracy"),
    "negative accuracy": (lambda p: p["modes"][0].update(accuracy=-0.1), "modes[0].accuracy"),
    "lower bound above 1": (lambda p: p["modes"][0].update(accuracy_low=2), "modes[0].accuracy_low"),
    "negative samples": (lambda p: p["modes"][0].update(samples=-1), "modes[0].samples"),
    "negative latency": (lambda p: p["modes"][0]["latency_s"].__setitem__(1, -1e-9), "latency_s[1]"),
    "endless latency": (lambda p: p["modes"][0]["latency_s"].__setitem__(1, 1e300), "at most 1e+06"),
    "null latency": (lambda p: p["modes"][0]["latency_s"].__setitem__(2, None), "latency_s[2]"),
    "latency true": (lambda p: p["modes"][0]["latency_s"].__setitem__(0, True), "latency_s[0]"),
    "latency a word": (lambda p: p["modes"][0]["latency_s"].__setitem__(0, "1"), "latency_s[0]"),
    "short list": (lambda p: p["modes"][0]["latency_p99_s"].pop(), "latency_p99_s"),
    "long list": (lambda p: p["modes"][1]["memory_bytes"].append(3), "memory_bytes"),
    "no list": (lambda p: p["modes"][0].update(latency_s=0.1), "latency_s"),
    "fractional bytes": (lambda p: p["modes"][0]["memory_bytes"].__setitem__(0, 1.5), "memory_bytes[0]"),
    "measured a number": (lambda p: p["modes"][1]["measured"].__setitem__(0, 1), "measured[0]"),
    "batch limit of no size": (lambda p: p["modes"][1].update(batch_limit=3), "batch_limit"),
    "preprocessing of no modality": (lambda p: p["preprocess_s"].update(smell=1.0), "smell"),
    "negative preprocessing": (lambda p: p["preprocess_s"].update(video=-1.0), "preprocess_s.video"),
    "no length buckets": (lambda p: p.update(length_buckets=[]), "length_buckets"),
    "length buckets descend": (lambda p: p.update(length_buckets=[2.0, 1.0]), "length_buckets"),
    "lists without their buckets": (lambda p: p.update(length_buckets=[1.0, 2.0]), "latency_s"),
}


@pytest.mark.parametrize(("edit", "named"), BAD_PROFILES.values(), ids=BAD_PROFILES)
def test_bad_profile_is_refused_by_name(edit: Edit, named: str) -> None:
    """A profile that breaks a rule is refused with one line naming the file and the key."""
    with pytest.raises(FileError) as caught:
        decode(edited(PROFILE, edit))
    assert str(caught.value).startswith("given.json: ")
    assert named in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    """NaN and infinities are no latencies, however they are spelt, and their place is named."""
    raw = json.dumps(PROFILE).replace("0.007", number)
    with pytest.raises(
        FileError, match=r"given\.json: key `modes\[\d\]\.latency_\w+\[\d\]` is -?(nan|inf); expected"
    ):
        tables.decode_profile(raw.encode(), "given.json")


def test_profile_cut_short_is_refused() -> None:
    """Every proper prefix of a profile is refused as a file that was cut short or edited."""
    raw = json.dumps(PROFILE).encode()
    for length in range(0, len(raw), 7):
        with pytest.raises(FileError, match=r"given\.json"):
            tables.decode_profile(raw[:length], "given.json")


@pytest.mark.parametrize(
    "raw", [b"[]", b"7", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": "\xff"}']
)
def test_what_is_no_profile_at_all_is_refused(raw: bytes) -> None:
    """JSON of another kind, other bytes and absurd nesting are refused, not crashed on."""
    with pytest.raises(FileError, match=r"given\.json"):
        tables.decode_profile(raw, "given.json")


def test_writing_checks_what_reading_checks(tmp_path: Path) -> None:
    """A profile that reading would refuse is not written at all."""
    bad = msgspec.structs.replace(decode(PROFILE), batch_sizes=(2,))
    with pytest.raises(FileError, match="batch_sizes"):
        tables.write_profile(bad, tmp_path / "profile.json")
    assert list(tmp_path.iterdir()) == []


def test_plan_reads_back_what_was_written(tmp_path: Path) -> None:
    """Writing a plan and reading it gives the same plan, with the keys of the public format."""
    plan = msgspec.convert(PLAN, tables.Plan)
    path = tmp_path / "plan.json"
    tables.write_plan(plan, path)
    assert tables.read_plan(path) == plan
    assert json.loads(path.read_text()) == PLAN


BAD_PLANS: dict[str, tuple[Edit, str]] = {
    "unknown key": (lambda p: p.update(colour="red"), "colour"),
    "missing key": (lambda p: p.pop("profile_sha256"), "profile_sha256"),
    "other format": (lambda p: p.update(format="mosel.profile/1"), "mosel.plan/1"),
    "no frontiers": (lambda p: p.update(frontiers={}), "frontiers"),
    "job size 0": (lambda p: p["frontiers"].update({"0": p["frontiers"]["1"]}), "frontiers.0"),
    "job size a word": (lambda p: p["frontiers"].update({"x": p["frontiers"]["1"]}), "frontiers.x"),
    "empty frontier": (lambda p: p["frontiers"].update({"3": []}), "frontiers.3"),
    "batches of another size": (lambda p: point(p).update(batches=[["audio", 1]]), "frontiers.2@0[1]"),
    "negative latency": (lambda p: point(p).update(latency_s=-1), "frontiers.2@0"),
    "accuracy above 1": (lambda p: point(p).update(accuracy=1.5), "frontiers.2@0[1]"),
    "dominated point": (lambda p: point(p).update(latency_s=0.006), "ascend"),
    "equal accuracy": (lambda p: point(p).update(accuracy=0.66), "ascend"),
}


@pytest.mark.parametrize(("edit", "named"), BAD_PLANS.values(), ids=BAD_PLANS)
def test_bad_plan_is_refused_by_name(edit: Edit, named: str, tmp_path: Path) -> None:
    """A plan that breaks a rule is refused with one line naming the file and the key."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(edited(PLAN, edit)))
    with pytest.raises(FileError) as caught:
        tables.read_plan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert named in str(caught.value)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    """A profile that is not there is an error that names the path."""
    with pytest.raises(FileError, match=r"nowhere\.json: cannot be read: No such file"):
        tables.read_profile(tmp_path / "nowhere.json")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_in_a_list_is_judged_not_crashed_on(value: object) -> None:
    """Whatever stands in `latency_s`, the profile is either valid or refused by a FileError."""
    profile = edited(PROFILE, lambda p: p["modes"][0].update(latency_s=[value, value, value]))
    good = isinstance(value, float) and 0 <= value <= tables.MOST_SECONDS
    if good:
        assert decode(profile).modes[0].latency_s == [value] * 3
    else:
        with pytest.raises(FileError):
            decode(profile)


def decode(profile: dict[str, Any]) -> tables.Profile:
    """Return the profile that `profile`, written as JSON, decodes to."""
    return tables.decode_profile(json.dumps(profile).encode(), "given.json")


def edited(given_table: dict[str, Any], edit: Edit) -> dict[str, Any]:
    """Return a copy of `given_table` after `edit`."""
    table = deepcopy(given_table)
    edit(table)
    return table


def point(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the last point of the plan's frontier of two requests."""
    found: dict[str, Any] = plan["frontiers"]["2@0"][1]
    return found


def bucketed() -> dict[str, Any]:
    """Return a valid profile with two length buckets."""
    lists = {
        "latency_s": [[0.1, 0.2, 0.3], [0.2, 0.4, 0.6]],
        "latency_p99_s": [[0.1, 0.2, 0.3], [0.2, 0.4, 0.6]],
        "memory_bytes": [[1, 2, 3], [2, 4, 6]],
    }
    return PROFILE | {"length_buckets": [10.0, 20.0], "modes": [PROFILE["modes"][0] | lists]}
