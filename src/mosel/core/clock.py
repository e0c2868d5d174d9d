"""Time, as integer nanoseconds, and the one place that reads it.

The scheduler never reads a clock: `now_ns` is passed to it. The live engine passes `monotonic_ns`; the
simulator and the virtual-time event loop pass a time of their own.
"""

import time

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


def monotonic_ns() -> int:
    """Return the machine's monotonic clock in nanoseconds."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Return the time of day in nanoseconds since 1970, for what leaves this machine; it may be set."""
    return time.time_ns()


def to_ns(seconds: float) -> int:
    """Return `seconds` as the nearest integer number of nanoseconds."""
    return round(seconds * NS_PER_S)


def to_s(ns: int) -> float:
    """Return `ns` nanoseconds as seconds."""
    return ns / NS_PER_S


def to_ms(ns: int) -> float:
    """Return `ns` nanoseconds as milliseconds."""
    return ns / NS_PER_MS
