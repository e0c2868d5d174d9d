"""What holds for all tests: property tests draw the same cases each time and are not held to a wall clock."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mosel", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mosel")
