"""Accuracies that a user measured elsewhere, in place of the profile's (`mosel serve --accuracy`)."""

from pathlib import Path

import msgspec

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.core.tables import Mode, Profile

READ_LIMIT_BYTES = 1 << 20
SOURCE_KEY = "accuracy_source"
"""Where a profile's `extra` says which file its accuracies come from."""


def with_accuracies(profile: Profile, path: Path) -> Profile:
    """Return `profile` with the accuracies of a JSON file `{"mode name": accuracy}`; other modes keep theirs.

    Raises:
        FileError: the file cannot be read, names a mode that the profile lacks, or a number not on 0..1.
    """
    given = _read(path)
    for name, accuracy in given.items():
        if name not in profile.mode_names:
            raise FileError(
                f"{path}: key `{name}` is no mode of model {profile.model!r}; "
                f"expected some of {', '.join(profile.mode_names)}"
            )
        if not 0 <= accuracy <= 1:
            raise FileError(f"{path}: key `{name}` is {accuracy}; expected an accuracy from 0 to 1")
    modes = tuple(_replaced(mode, given.get(profile.name_of(mode))) for mode in profile.modes)
    extra = {**(profile.extra or {}), SOURCE_KEY: str(path)}
    return msgspec.structs.replace(profile, modes=modes, extra=extra)


def _read(path: Path) -> dict[str, float]:
    try:
        return msgspec.json.decode(read_bytes(path, READ_LIMIT_BYTES), type=dict[str, float])
    except (msgspec.DecodeError, RecursionError) as error:
        raise FileError(f'{path}: {error}; expected {{"mode": accuracy, …}}') from error


def _replaced(mode: Mode, accuracy: float | None) -> Mode:
    """Return `mode` with this accuracy, whose interval is not known, as no samples are."""
    if accuracy is None:
        return mode
    return msgspec.structs.replace(mode, accuracy=accuracy, accuracy_low=accuracy, samples=0)
