"""Peak memory of a batch: CUDA's own statistics on a GPU, the resident set on a host."""

import ctypes
import resource
from contextlib import suppress
from pathlib import Path
from typing import Protocol

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


class MemoryGauge(Protocol):
    """Tells the peak since the last reset."""

    def reset(self) -> None:
        """Forget the peak so far."""

    def peak_bytes(self) -> int:
        """Return the peak since the last reset, weights included."""


def gauge(device: str, framework: str) -> MemoryGauge:
    """Return the gauge of a device. Make it before the model is loaded: a host counts from then on."""
    if framework == "torch":
        import torch  # an optional extra; its own size is no part of a model's

        if device != "cpu":
            return CudaGauge(torch.device(device))
    return HostGauge()


class CudaGauge:
    """What torch's allocator held at most on one device, weights included."""

    def __init__(self, device: object) -> None:
        self._device = device

    def reset(self) -> None:
        """Forget the peak so far."""
        import torch

        torch.cuda.reset_peak_memory_stats(self._device)  # type: ignore[arg-type]

    def peak_bytes(self) -> int:
        """Return the most bytes allocated at once since the last reset."""
        import torch

        return int(torch.cuda.max_memory_allocated(self._device))  # type: ignore[arg-type]


class HostGauge:
    """By how much the resident set peaked over its size when this gauge was made.

    Free heap is given back to the system first, so that one batch's leavings are not the next one's peak.
    Where the kernel cannot reset the peak (no Linux), it is that of the process so far.
    """

    def __init__(self) -> None:
        self._can_reset = True
        self.reset()
        self._baseline_bytes = _resident_bytes()

    def reset(self) -> None:
        """Forget the peak so far."""
        with suppress(OSError, AttributeError):  # another C library: its heap keeps what it has
            ctypes.CDLL(None).malloc_trim(0)
        try:
            CLEAR_REFS.write_text(RESET_PEAK)
        except OSError:
            self._can_reset = False

    def peak_bytes(self) -> int:
        """Return the growth at its peak since the last reset."""
        return max(0, _peak_bytes(self._can_reset) - self._baseline_bytes)


def _peak_bytes(can_reset: bool) -> int:
    return _status_bytes("VmHWM") if can_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident_bytes() -> int:
    return _status_bytes("VmRSS") if STATUS.exists() else _peak_bytes(can_reset=False)


def _status_bytes(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
