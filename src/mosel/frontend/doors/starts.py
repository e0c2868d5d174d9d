"""What the processes of groups and front doors are told when they start: one file each, read by nobody else."""

from pathlib import Path
from typing import TypeVar

import msgspec

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.frontend.config import ServeConfig

LIMIT_BYTES = 16 << 20

T = TypeVar("T")


class GroupStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group is told.

    Attributes:
        config: how it serves, as if it were alone.
        index: which group it is.
        groups: of how many.
        first: how many workers the groups before it have.
        on_machine: how many all have.
    """

    config: ServeConfig
    index: int
    groups: int
    first: int
    on_machine: int


class DoorStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a front door is told.

    Attributes:
        config: its limits, keys and the models.
        index: which door it is.
        doors: of how many.
        profiles: of each group, the files of its profiles.
        workers: of each group, how many it has.
    """

    config: ServeConfig
    index: int
    doors: int
    profiles: tuple[tuple[str, ...], ...]
    workers: tuple[int, ...]


class Places:
    """Where things are in the folder that the processes share.

    Args:
        folder: only this user may enter it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts = folder / "counts"
        self.quotas = folder / "quotas"
        self.wishes = folder / "wishes"

    def start(self, name: str) -> Path:
        """Return the file that tells a process how to start."""
        return self.folder / f"{name}.json"

    def calls(self, group: int) -> Path:
        """Return the socket on which a group takes calls."""
        return self.folder / f"group-{group}.calls"

    def loads(self, group: int) -> Path:
        """Return the socket on which a group tells how it stands."""
        return self.folder / f"group-{group}.loads"

    def profile(self, group: int, model: str) -> Path:
        """Return the file of a group's profile of a model."""
        return self.folder / f"group-{group}-{model}.json"


def read_group(path: Path) -> GroupStart:
    """Return what a group is told.

    Raises:
        FileError: it cannot be read.
    """
    return _read(path, GroupStart)


def read_door(path: Path) -> DoorStart:
    """Return what a front door is told.

    Raises:
        FileError: it cannot be read.
    """
    return _read(path, DoorStart)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_bytes(path, LIMIT_BYTES), type=kind)
    except msgspec.MsgspecError as error:
        raise FileError(f"{path}: is not what a process of a server is told: {error}") from error
