from hypothesis import given
from hypothesis import strategies as st

from mosel.core import clock


@given(st.integers(0, 10**15))
def test_nanoseconds_survive_seconds(ns: int) -> None:
    """Up to eleven days, nanoseconds made seconds and back are the same nanoseconds."""
    assert clock.to_ns(clock.to_s(ns)) == ns


def test_units() -> None:
    """A second is 10⁹ nanoseconds and 1000 milliseconds; halves round to the nearest nanosecond."""
    assert clock.to_ns(1.5) == 1_500_000_000
    assert clock.to_s(1_500_000_000) == 1.5
    assert clock.to_ms(1_500_000_000) == 1500.0
    assert clock.to_ns(0.6e-9) == 1


def test_monotonic_clock_does_not_go_back() -> None:
    """Two readings of the monotonic clock are in order and whole numbers."""
    first, second = clock.monotonic_ns(), clock.monotonic_ns()
    assert isinstance(first, int)
    assert first <= second
