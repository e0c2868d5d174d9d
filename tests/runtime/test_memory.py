import numpy as np

from mosel.runtime.memory import HostGauge, gauge

SIZE = 64 << 20


def test_a_peak_is_seen_after_its_memory_was_given_back() -> None:
    """What a batch held only while it ran counts."""
    gauge_ = HostGauge()
    np.ones(SIZE, np.uint8)
    assert 0.98 * SIZE < gauge_.peak_bytes() < 2 * SIZE


def test_a_reset_forgets_the_peak() -> None:
    """The next batch does not answer for the one before it."""
    gauge_ = HostGauge()
    np.ones(SIZE, np.uint8)
    gauge_.reset()
    assert gauge_.peak_bytes() < SIZE / 2


def test_a_cpu_is_gauged_by_the_resident_set() -> None:
    """Torch on a CPU and plain numpy have the same gauge."""
    assert isinstance(gauge("cpu", "torch"), HostGauge)
    assert isinstance(gauge("cpu", "numpy"), HostGauge)
