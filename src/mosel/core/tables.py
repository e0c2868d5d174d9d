"""𝒟 (`Profile`) and 𝒫 (`Plan`) as frozen tables, and their files (`docs/formats.md`).

Reading validates everything: an unknown or missing key, a NaN, a negative latency, a wrong length or an
unknown `format` raises `FileError` with the file, the key and what was expected. What the numbers mean for
scheduling is not known here.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mosel.core.cascades import Cascade, cascade_problems
from mosel.core.errors import FileError, UsageError
from mosel.core.files import read_bytes, sha256, write_atomic
from mosel.core.types import mode_name

T = TypeVar("T")

PROFILE_FORMAT = "mosel.profile/1"
PLAN_FORMAT = "mosel.plan/1"
MOST_BATCH = 1024
"""The largest batch size: a plan has a frontier for each job size up to it."""
MOST_SECONDS = 1e6
"""Of one batch: the nanoseconds of thousands of them then fit 64 bits."""
SECONDS = f"seconds ≥ 0, at most {MOST_SECONDS:g}"


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device a profile was measured on; `kind` is `cpu`, `cuda` or `host` (no torch at all)."""

    name: str
    kind: str


class Mode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One modality combination, one column of 𝒟.

    `latency_s`, `latency_p99_s`, `memory_bytes` and `measured` have one entry per batch size up to
    `batch_limit`; with length buckets each of these entries' lists is a list of such lists, one per bucket.
    """

    modalities: tuple[str, ...]
    accuracy: float
    accuracy_low: float
    samples: int
    latency_s: Any
    latency_p99_s: Any
    memory_bytes: Any
    precision: str | None = None
    batch_limit: int | None = None
    measured: Any = None


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """𝒟: latency, memory and accuracy of every mode × batch size of one model on one device (§5.1)."""

    format: str
    model: str
    modalities: tuple[str, ...]
    metric: str
    batch_sizes: tuple[int, ...]
    modes: tuple[Mode, ...]
    device: Device
    precision: str
    software: dict[str, str]
    measured_at: str
    preprocess_s: dict[str, float] | None = None
    length_buckets: tuple[float, ...] | None = None
    cascades: tuple[Cascade, ...] = ()
    extra: dict[str, Any] | None = None

    @property
    def buckets(self) -> int:
        """How many length buckets there are; 1 where the profile has none."""
        return len(self.length_buckets) if self.length_buckets else 1

    def name_of(self, mode: Mode) -> str:
        """Return the mode's name; its precision is part of it only where the model has several.

        A profile of one precision of several says so by a `precision` of its own that is none of its modes'.
        """
        several = len({self.precision, *(self.precision_of(m) for m in self.modes)}) > 1
        return mode_name(mode.modalities, self.precision_of(mode) if several else "")

    @property
    def mode_names(self) -> tuple[str, ...]:
        """The names of all modes, in the profile's order."""
        return tuple(self.name_of(mode) for mode in self.modes)

    def mode_named(self, name: str) -> Mode:
        """Return the mode called `name`; KeyError if there is none."""
        return dict(zip(self.mode_names, self.modes, strict=True))[name]

    def precision_of(self, mode: Mode) -> str:
        """Return the precision that `mode` runs at."""
        return mode.precision or self.precision

    def columns(self, values: Any) -> tuple[tuple[float, ...], ...]:
        """Return a mode's per-batch list (`latency_s`, say) as one tuple per length bucket."""
        return tuple(tuple(row) for row in (values if self.length_buckets else [values]))

    def sizes_of(self, mode: Mode) -> tuple[int, ...]:
        """Return the batch sizes that `mode` was profiled for."""
        limit = mode.batch_limit or self.batch_sizes[-1]
        return tuple(size for size in self.batch_sizes if size <= limit)


class PlanPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point of a Pareto frontier and a strategy that attains it: batches of (mode, size)."""

    accuracy: float
    latency_s: float
    batches: tuple[tuple[str, int], ...]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """𝒫: for each job size the whole Pareto frontier of (accuracy, latency) (§5.1)."""

    format: str
    model: str
    profile_sha256: str
    frontiers: dict[str, tuple[PlanPoint, ...]]


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile and the SHA-256 of the file it was read from."""

    profile: Profile
    sha256: str


def read_profile(path: Path) -> ProfileFile:
    """Read and validate a `profile.json`.

    Raises:
        FileError: naming the file, the key and what was expected.
    """
    raw = read_bytes(path)
    return ProfileFile(decode_profile(raw, str(path)), sha256(raw))


def read_profiles(paths: Iterable[Path]) -> dict[str, Profile]:
    """Read one profile for each model, by the model's name.

    Raises:
        UsageError: a model has two; FileError as `read_profile`.
    """
    found: dict[str, Profile] = {}
    for path in paths:
        profile = read_profile(path).profile
        if profile.model in found:
            raise UsageError(f"{path}: model {profile.model!r} has a profile already; give one for each model")
        found[profile.model] = profile
    return found


def decode_profile(raw: bytes, source: str) -> Profile:
    """Decode a profile from JSON; `source` names it in errors.

    Raises:
        FileError: naming the source, the key and what was expected.
    """
    profile = _decode(raw, Profile, PROFILE_FORMAT, source)
    check_profile(profile, source)
    return profile


def write_profile(profile: Profile, path: Path) -> None:
    """Write `profile` atomically, after the checks that reading makes."""
    check_profile(profile, str(path))
    write_atomic(path, msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n")


def read_plan(path: Path) -> Plan:
    """Read and validate a `plan.json`.

    Raises:
        FileError: naming the file, the key and what was expected.
    """
    plan = _decode(read_bytes(path), Plan, PLAN_FORMAT, str(path))
    check_plan(plan, str(path))
    return plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write `plan` atomically, after the checks that reading makes."""
    check_plan(plan, str(path))
    write_atomic(path, encode_plan(plan))


def encode_plan(plan: Plan) -> bytes:
    """Return `plan` as the JSON of its file."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def check_profile(profile: Profile, source: str) -> None:
    """Check what types alone do not say.

    Raises:
        FileError: naming the source, the key and what was expected.
    """
    problem = next(_profile_problems(profile), None)
    if problem:
        raise FileError(f"{source}: {problem}")


def check_plan(plan: Plan, source: str) -> None:
    """Check that every frontier ascends and every strategy has as many requests as its key says.

    Raises:
        FileError: naming the source, the key and what was expected.
    """
    problem = next(_plan_problems(plan), None)
    if problem:
        raise FileError(f"{source}: {problem}")


def _decode(raw: bytes, kind: type[T], format_name: str, source: str) -> T:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = _no_number(raw) or f"is not valid JSON ({error}); was it cut short or edited?"
        raise FileError(f"{source}: {problem}") from error
    given = found.get("format") if isinstance(found, dict) else None
    if given != format_name:
        raise FileError(f'{source}: key `format` is {given!r}; expected "{format_name}"')
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise FileError(f"{source}: {error}") from error


def _no_number(raw: bytes) -> str | None:
    """Say where a NaN or an infinity stands, which some programs write although JSON has neither."""
    try:
        waiting = [("key `", json.loads(raw))]
    except (ValueError, RecursionError):
        return None
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return f"{place}` is {value}; expected a finite number"
        inside = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, each in inside:
            step = f"[{key}]" if isinstance(key, int) else key if place.endswith("`") else f".{key}"
            waiting.append((place + step, each))
    return None


def _profile_problems(profile: Profile) -> Iterator[str]:
    if not profile.modalities or len(set(profile.modalities)) != len(profile.modalities):
        yield f"key `modalities` is {list(profile.modalities)}; expected one or more different names"
    if not profile.model:
        yield "key `model` is empty; expected a name"
    sizes = profile.batch_sizes
    if not sizes or sizes[0] != 1 or any(a >= b for a, b in itertools.pairwise(sizes)):
        yield f"key `batch_sizes` is {list(sizes)}; expected ascending whole numbers from 1"
    elif sizes[-1] > MOST_BATCH:
        yield f"key `batch_sizes` goes to {sizes[-1]}; expected {MOST_BATCH:,} at most"
    yield from _bucket_problems(profile.length_buckets)
    if not profile.modes:
        yield "key `modes` is empty; expected at least one mode"
    for index, mode in enumerate(profile.modes):
        yield from (f"key `modes[{index}].{text}" for text in _mode_problems(profile, mode))
    names = profile.mode_names
    if len(set(names)) != len(names):
        yield f"key `modes` names a mode twice: {', '.join(names)}"
    yield from _cascade_problems(profile)
    for name, value in (profile.preprocess_s or {}).items():
        if name not in profile.modalities or not _is_duration(value):
            yield f"key `preprocess_s.{name}` is {value}; expected {SECONDS} for one of the modalities"


def _cascade_problems(profile: Profile) -> Iterator[str]:
    modes = dict(zip(profile.mode_names, profile.modes, strict=True))
    for index, cascade in enumerate(profile.cascades):
        yield from (f"key `cascades[{index}].{text}" for text in cascade_problems(cascade, modes))
    names = [cascade.name for cascade in profile.cascades]
    if len(set(names)) != len(names):
        yield f"key `cascades` names a cascade twice: {', '.join(names)}"


def _bucket_problems(buckets: Sequence[float] | None) -> Iterator[str]:
    if buckets is None:
        return
    ascending = all(a < b for a, b in itertools.pairwise(buckets))
    if not buckets or not ascending or not all(math.isfinite(limit) and limit > 0 for limit in buckets):
        yield f"key `length_buckets` is {list(buckets)}; expected ascending positive limits"


def _mode_problems(profile: Profile, mode: Mode) -> Iterator[str]:
    order = [name for name in profile.modalities if name in mode.modalities]
    if not mode.modalities or list(mode.modalities) != order:
        yield (
            f"modalities` is {list(mode.modalities)}; expected some of {list(profile.modalities)}, "
            "in that order"
        )
    for key in ("accuracy", "accuracy_low"):
        if not 0 <= getattr(mode, key) <= 1:
            yield f"{key}` is {getattr(mode, key)}; expected a number from 0 to 1"
    if mode.samples < 0:
        yield f"samples` is {mode.samples}; expected 0 or more"
    if mode.batch_limit is not None and mode.batch_limit not in profile.batch_sizes:
        yield f"batch_limit` is {mode.batch_limit}; expected one of `batch_sizes`"
        return
    yield from _list_problems(profile, mode, "latency_s", SECONDS)
    yield from _list_problems(profile, mode, "latency_p99_s", SECONDS)
    yield from _list_problems(profile, mode, "memory_bytes", "whole bytes ≥ 0")
    if mode.measured is not None:
        yield from _list_problems(profile, mode, "measured", "true or false")


def _list_problems(profile: Profile, mode: Mode, key: str, expected: str) -> Iterator[str]:
    values = getattr(mode, key)
    rows = values if profile.length_buckets else [values]
    if not isinstance(rows, list | tuple) or len(rows) != profile.buckets:
        yield f"{key}` has the wrong length; expected {profile.buckets} lists, one per length bucket"
        return
    wanted = len(profile.sizes_of(mode))
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != wanted:
            given = len(row) if isinstance(row, list | tuple) else "no"
            yield f"{key}` has {given} entries; expected {wanted}, one per batch size"
            return
        for position, value in enumerate(row):
            if not _fits(value, key):
                yield f"{key}[{position}]` is {value}; expected {expected}"
                return


def _fits(value: object, key: str) -> bool:
    if key == "measured":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if key == "memory_bytes":
        return isinstance(value, int) and value >= 0
    return isinstance(value, int | float) and _is_duration(value)


def _is_duration(value: float) -> bool:
    return 0 <= value <= MOST_SECONDS


def _plan_problems(plan: Plan) -> Iterator[str]:
    if not plan.frontiers:
        yield "key `frontiers` is empty; expected one frontier per job size"
    for key, points in plan.frontiers.items():
        size = key.split("@")[0]
        if not size.isdecimal() or int(size) < 1 or not points:
            yield f"key `frontiers.{key}`; expected a job size from 1 with at least one point"
            return
        for index, point in enumerate(points):
            where = f"key `frontiers.{key}[{index}]`"
            if sum(count for _, count in point.batches) != int(size):
                yield f"{where}: its batches hold another number of requests than {size}"
            if not 0 <= point.accuracy <= 1 + 1e-9 or not 0 <= point.latency_s < math.inf:
                yield f"{where}: expected an accuracy from 0 to 1 and a latency ≥ 0"
        for before, after in itertools.pairwise(points):
            if not (before.accuracy < after.accuracy and before.latency_s < after.latency_s):
                yield f"key `frontiers.{key}` does not ascend in both accuracy and latency"
