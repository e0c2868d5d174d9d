"""Accuracies that a user measured elsewhere, in place of the profile's (`mosel serve --accuracy`)."""

from pathlib import Path

import msgspec

from mosel.core.errors import FileError, UsageError
from mosel.core.files import read_bytes
from mosel.core.tables import Mode, Profile
from mosel.core.types import mode_name
from mosel.offline.profiler import NONE

READ_LIMIT_BYTES = 1 << 20
SOURCE_KEY = "accuracy_source"
"""Where a profile's `extra` says which file its accuracies come from."""


def check_claimed(profile: Profile) -> None:
    """Check that the accuracies of a profile may be promised.

    Raises:
        UsageError: they are those of random weights, which claim none.
    """
    if (profile.extra or {}).get(SOURCE_KEY) == NONE:
        raise UsageError(unclaimed(profile.model))


def unclaimed(model: str) -> str:
    """Return what to say of a model whose weights are random."""
    return (
        f"model {model!r} has random weights, so there is no accuracy to promise; give it a checkpoint, if it "
        f"takes one ({model},checkpoint=FILE), or accuracies found elsewhere: --accuracy FILE"
    )


def with_accuracies(profile: Profile, path: Path) -> Profile:
    """Return `profile` with the accuracies of a JSON file `{"mode name": accuracy}`; other modes keep theirs.

    Its cascades, which were measured with other accuracies, are left out.

    A name without a precision stands for the mode at each precision that is not named itself.

    Raises:
        FileError: the file cannot be read, names a mode that the profile lacks, or a number not on 0..1, or
            leaves out a mode of a profile that claims no accuracy itself.
    """
    given = _read(path)
    known = {*profile.mode_names, *(mode_name(mode.modalities) for mode in profile.modes)}
    for name, accuracy in given.items():
        if name not in known:
            raise FileError(
                f"{path}: key `{name}` is no mode of model {profile.model!r}; "
                f"expected some of {', '.join(profile.mode_names)}"
            )
        if not 0 <= accuracy <= 1:
            raise FileError(f"{path}: key `{name}` is {accuracy}; expected an accuracy from 0 to 1")
    found = {
        name: given.get(name, given.get(mode_name(mode.modalities)))
        for name, mode in zip(profile.mode_names, profile.modes, strict=True)
    }
    left = [name for name, accuracy in found.items() if accuracy is None]
    if left and (profile.extra or {}).get(SOURCE_KEY) == NONE:
        raise FileError(
            f"{path}: lacks {', '.join(left)}; expected every mode, as the weights of {profile.model!r} are "
            "random and its profile claims no accuracy"
        )
    modes = tuple(map(_replaced, profile.modes, found.values()))
    extra = {**(profile.extra or {}), SOURCE_KEY: str(path)}
    return msgspec.structs.replace(profile, modes=modes, cascades=(), extra=extra)


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
