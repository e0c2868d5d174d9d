"""`mosel place`: which models and precisions should live on which device."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from mosel.core.errors import UsageError
from mosel.core.files import write_atomic
from mosel.core.tables import Profile, read_profile, write_profile
from mosel.evaluation.workload import Workload, read_workload
from mosel.online.placed import FORMAT
from mosel.online.placement import Devices, Placement, Placer, Worker

GIB = 1 << 30


def place(
    *paths: Path,
    device: tuple[str, ...],
    room: float = 0.9,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    quiet: bool = False,
) -> None:
    """Choose which models and precisions live on which device, for the requests of a workload.

    The expected effective accuracy is maximised, with the devices' memory and time as limits (HiGHS). Writes
    placement.json and the profiles of what lives where, for --worker of mosel simulate.

    Example: mosel place tvlt.json vilt.json workload.csv --device "NVIDIA H100=2:80" -o placed

    Args:
        paths: the profile.json of each model on each kind of device, then the workload.csv.
        device: NAME=COUNT:GIB, a kind of device as profiles name it, how many there are, and the memory of each
            in GiB; repeated, once for each kind.
        room: which part of the devices' time may be planned with.
        output: the directory for placement.json and the profiles.
        quiet: print no table.
    """
    if len(paths) < 2:
        raise UsageError("expected one or more profiles and, last, a workload: mosel place PROFILE… WORKLOAD")
    profiles = [read_profile(path).profile for path in paths[:-1]]
    jobs = read_workload(paths[-1], {profile.model: profile.modalities for profile in profiles})
    devices = [_devices(text) for text in device]
    found = Placer(profiles, devices, room).place(jobs.jobs, _duration_s(jobs))
    output.mkdir(parents=True, exist_ok=True)
    names = _write_profiles(found, output)
    told = [_worker(worker, names) for worker in found.workers]
    document = {
        "format": FORMAT,
        "effective_accuracy": found.effective_accuracy,
        "room": room,
        "devices": [msgspec.to_builtins(each) for each in devices],
        "workers": told,
    }
    write_atomic(output / "placement.json", json.dumps(document, indent=1) + "\n")
    if not quiet:
        Console(stderr=True).print(_table(found, told))


def _devices(text: str) -> Devices:
    name, _, rest = text.rpartition("=")
    count, _, gib = rest.partition(":")
    try:
        found = Devices(name, int(count), float(gib) * GIB)
    except ValueError:
        found = Devices("", 0, 0.0)
    if not found.name or found.count < 1 or not 0 < found.memory_bytes < float("inf"):
        raise UsageError(f"--device {text}; expected NAME=COUNT:GIB, as in 'NVIDIA H100=2:80'")
    return found


def _duration_s(jobs: Workload) -> float:
    return jobs.jobs[-1].arrival_ns / 1e9 if jobs.jobs else 0.0


def _write_profiles(found: Placement, folder: Path) -> dict[int, str]:
    """Write each profile that is in use once; returns their file names by identity."""
    names: dict[int, str] = {}
    kept: list[tuple[str, Profile]] = []
    for worker in found.workers:
        for model, profile in worker.profiles.items():
            known = next((name for name, other in kept if other == profile), None)
            if known is None:
                known = f"{model}-{len(kept)}.json"
                kept.append((known, profile))
                write_profile(profile, folder / known)
            names[id(profile)] = known
    return names


def _worker(worker: Worker, names: dict[int, str]) -> dict[str, Any]:
    return {
        "device": worker.device,
        "variants": [variant.name for variant in worker.variants],
        "profiles": [names[id(profile)] for profile in worker.profiles.values()],
    }


def _table(found: Placement, told: list[dict[str, Any]]) -> Table:
    title = f"expected effective accuracy {found.effective_accuracy:.4f}"
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    for name in ("worker", "device", "holds"):
        table.add_column(name, overflow="fold")
    for number, worker in enumerate(told):
        table.add_row(str(number), worker["device"], ", ".join(worker["variants"]) or "nothing")
    return table
