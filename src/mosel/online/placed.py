"""Which workers of a live server hold which models, and how that changes with the load.

A placement is read from the file that `mosel place` writes. When jobs of other models come than those that
models were placed for, they are placed anew in a thread, and workers are loaded with other models one after the
other (`moving.py`): each drains before, and what it alone had is elsewhere by then.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from mosel.core.errors import FileError, MoselError, UsageError
from mosel.core.files import read_bytes
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.online.placement import Devices, Placement, Placer, Variant

log = logging.getLogger(__name__)

FORMAT = "mosel.placement/1"
LIMIT_BYTES = 64 << 20

Profiles = Mapping[str, Profile]


class PlacedDevices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of a kind, see `Devices`."""

    name: str
    count: int
    memory_bytes: float


class PlacedWorker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker: its device, the variants that it holds, and the files of their profiles beside this one."""

    device: str
    variants: list[str]
    profiles: list[str]


class PlacementFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """placement.json."""

    format: str
    effective_accuracy: float
    room: float
    devices: list[PlacedDevices]
    workers: list[PlacedWorker]


def read_placement(path: Path) -> PlacementFile:
    """Return what stands in a placement.json.

    Raises:
        FileError: it cannot be read, or is none.
    """
    try:
        found = msgspec.json.decode(read_bytes(path, LIMIT_BYTES), type=PlacementFile)
    except msgspec.MsgspecError as error:
        raise FileError(f"{path}: expected the placement.json of `mosel place`: {error}") from error
    if found.format != FORMAT:
        raise FileError(f"{path}: format is {found.format!r}; expected {FORMAT!r}")
    if not found.workers:
        raise FileError(f"{path}: has no workers; expected one for each device")
    return found


def placer_of(file: PlacementFile, profiles: Sequence[Profile]) -> Placer:
    """Return what places models anew, beginning with what stands in a file.

    Args:
        file: the placement.
        profiles: of all models that are served, on this device.

    Raises:
        UsageError: the file is of other devices or models.
    """
    here = {profile.device.name for profile in profiles}
    if elsewhere := {worker.device for worker in file.workers} - here:
        raise UsageError(
            f"the placement is for device {min(elsewhere)!r}, the profiles are of {', '.join(sorted(here))}; "
            "place these: mosel place PROFILE… WORKLOAD --device NAME=COUNT:GIB"
        )
    placer = Placer(profiles, [Devices(d.name, d.count, d.memory_bytes) for d in file.devices], file.room)
    placer.begin_with([[_variant(name) for name in worker.variants] for worker in file.workers])
    return placer


class Beside:
    """Places models anew in a thread, while jobs go on; called as `moving.Resolve`.

    Args:
        placer: does it.
    """

    def __init__(self, placer: Placer) -> None:
        self._placer = placer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="placement")
        self._under_way: Future[Placement] | None = None

    def __call__(self, jobs: Sequence[Job], duration_s: float) -> Sequence[Profiles] | None:
        """Return each worker's profiles for jobs like these once they are found."""
        if self._under_way is None:
            self._under_way = self._thread.submit(self._placer.place, tuple(jobs), duration_s)
        if not self._under_way.done():
            return None
        done, self._under_way = self._under_way, None
        try:
            return [worker.profiles for worker in done.result().workers]
        except MoselError as error:  # then the placement that there is stays
            log.warning("models are not placed anew: %s", error)
            return [worker.profiles for worker in self._placer.workers]

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _variant(name: str) -> Variant:
    model, _, precision = name.rpartition("@")
    return Variant(model, precision)
