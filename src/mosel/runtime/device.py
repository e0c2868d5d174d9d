"""Which device a model runs on, which CPU cores a worker uses, and where its profile is kept.

The profiler and the worker call the same functions here, so that 𝒟 is measured under the conditions it is used
in. What runs on a device is `runner.py`'s business.
"""

import ctypes
import importlib.util
import os
import platform
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mosel import __version__
from mosel.core.errors import UsageError
from mosel.core.files import cache_dir
from mosel.core.tables import Device


def default_device(framework: str = "torch") -> str:
    """Return the device to use where none is named: `cuda` where torch sees one, else `cpu`."""
    if framework == "numpy" or not _gpu_driver():
        return "cpu"
    return "cuda" if _torch(framework).cuda.is_available() else "cpu"


def describe(device: str, framework: str = "torch") -> Device:
    """Return what profiles say of `device` (`cpu`, `cuda` or `cuda:1`).

    A model of framework `numpy` runs on the host whatever the device: its kind is `host`.

    Raises:
        UsageError: there is no such device here, or torch is needed and not installed.
    """
    if framework == "numpy":
        return Device(_cpu_name(), "host")
    if device == "cpu":
        _check_installed(framework)
        return Device(_cpu_name(), "cpu")
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise UsageError(f"device {device!r}: expected cpu, cuda or cuda:INDEX")
    torch = _torch(framework)
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"device {device!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu, or install a CUDA build of torch"
        )
    return Device(torch.cuda.get_device_name(index), "cuda")


def software(framework: str = "torch") -> dict[str, str]:
    """Return the versions that a profile depends on, by name."""
    found = {"mosel": __version__, "numpy": np.__version__, "python": platform.python_version()}
    if framework == "torch":
        found["torch"] = str(_torch(framework).__version__)
    return found


def usable_cores() -> set[int]:
    """Return the CPU cores that this thread may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def worker_cores(worker: int, threads: int = 1, cores: Collection[int] | None = None) -> tuple[int, ...]:
    """Return the CPU cores of worker 0, 1, …: `threads` each, from the last core downwards.

    The first core is left to the server where there is more than one; workers share cores only where there
    are too few. `cores` are those to share out, by default those that this process may use: a server that has
    pinned itself passes what it had before.

    Raises:
        UsageError: fewer cores than threads.
    """
    available = sorted(usable_cores() if cores is None else cores)
    if not 1 <= threads <= len(available):
        raise UsageError(f"{threads} threads asked for; this process may use {len(available)} CPU cores")
    blocks = max(1, (len(available) - 1) // threads)
    end = len(available) - (worker % blocks) * threads
    return tuple(available[end - threads : end])


def pin(cores: Iterable[int]) -> None:
    """Keep the calling thread, and the threads it starts from now on, on these CPU cores (Linux only)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cores))


@contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Keep the calling thread on these CPU cores inside the block."""
    before = usable_cores()
    pin(cores)
    try:
        yield
    finally:
        pin(before)


def profile_path(model_name: str, version: str, device: Device, threads: int = 1) -> Path:
    """Return where the profile of this model on this device is kept between runs."""
    place = f"{device.kind}-{device.name}" + (f"-{threads}-threads" if threads > 1 else "")
    return cache_dir() / "profiles" / f"{_slug(model_name)}@{_slug(version)}" / f"{_slug(place)}.json"


def _gpu_driver() -> bool:
    """Whether a GPU has its driver here: if not, torch sees none, and is not imported (seconds) to be asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()  # AMD's
    return True


def _check_installed(framework: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise _no_torch(framework)


def _torch(framework: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise _no_torch(framework) from error
    return torch


def _no_torch(framework: str) -> UsageError:
    return UsageError(f"framework {framework!r} needs torch: pip install 'mosel[torch]'")


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # no /proc on this system
        found = None
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-").lower() or "_"
