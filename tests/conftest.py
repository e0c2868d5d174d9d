"""What holds for all tests: property tests draw the same cases each time and are not held to a wall clock."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mosel", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mosel")


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    """The collector of cyclic garbage runs when it is called, and only then."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
