import math

import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import InputError
from mosel.frontend.parameters import Defaults, Wishes, read_parameters

DEFAULTS = Defaults(accuracy_slo=0.6, latency_slo_s=0.5, tenants={"gold": 4.0})


def read(**given: object) -> Wishes:
    """Read these parameters."""
    return read_parameters(given, DEFAULTS)


@pytest.mark.parametrize(
    "given", [{}, dict.fromkeys(("accuracy_slo", "timeout", "weight", "priority", "tenant", "length"))]
)
def test_defaults(given: dict[str, object]) -> None:
    """What is absent, or null, is the model's default; a job is worth 1 a request."""
    assert read(**given) == Wishes(0.6, to_ns(0.5), 1.0, "", None)


@pytest.mark.parametrize(
    ("given", "latency_s"),
    [
        ({"latency_slo_ms": "12.5"}, 0.0125),
        ({"timeout": 3000}, 0.003),
        ({"timeout": "3000", "latency_slo_ms": 20}, 0.003),
        ({"timeout": 3_000_000, "latency_slo_ms": 20}, 0.02),
        ({"timeout": 3_000_000}, 0.5),
    ],
)
def test_least_limit_wins(given: dict[str, object], latency_s: float) -> None:
    """Numbers may be strings; of the latency SLO (or its default) and the timeout the least is the limit."""
    assert read(**given).latency_ns == to_ns(latency_s)


NO_NUMBERS = [math.nan, math.inf, -math.inf, -1, "nan", "soon", "", True, [1], {"a": 1}, 10**400, 1e30]


@pytest.mark.parametrize("name", ["accuracy_slo", "latency_slo_ms", "timeout", "weight", "priority", "length"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_bad_numbers(name: str, value: object) -> None:
    """A value that is no number in its range is refused, naming it, what was given and the range."""
    with pytest.raises(InputError, match=f"parameter {name} is .*expected a number from (0|1e-09) to"):
        read(**{name: value})


@pytest.mark.parametrize("name", ["latency_slo_ms", "timeout", "length"])
def test_nothing_at_all(name: str) -> None:
    """A latency limit of 0 is refused, as no job could meet it, and so is a length of 0."""
    with pytest.raises(InputError, match=f"parameter {name} is 0; expected more than 0"):
        read(**{name: 0})


def test_a_long_value_is_cut() -> None:
    """What an error repeats of a value is short, however long the value was."""
    with pytest.raises(InputError, match="parameter weight is 'xxx") as caught:
        read(weight="x" * 10_000)
    assert len(str(caught.value)) < 200


def test_unknown_parameter() -> None:
    """A parameter that does nothing here, a mistyped one for instance, is refused with the known ones."""
    with pytest.raises(InputError, match="'acuracy_slo' is unknown; expected some of accuracy_slo, latency"):
        read(acuracy_slo=0.9)


@pytest.mark.parametrize(
    ("priority", "weight"), [(0, 1.0), ("0", 1.0), (1, 100.0), (2, 10.0), (3, 1.0), (4, 0.1), (9, 1e-6)]
)
def test_priorities_are_weights(priority: object, weight: float) -> None:
    """As with Triton 1 is the highest and 0 the default; a request of one level is worth ten of the next."""
    assert read(priority=priority).weight == pytest.approx(weight)


def test_a_priority_is_a_whole_number() -> None:
    """There is nothing between two levels."""
    with pytest.raises(InputError, match=r"priority is 1\.5; expected a whole number: 1 is the highest"):
        read(priority=1.5)


def test_weight_and_priority_contradict_each_other() -> None:
    """They say the same thing in two ways: only one may be given, but a priority of 0 says nothing."""
    with pytest.raises(InputError, match="weight and priority are both given"):
        read(weight=2, priority=1)
    assert read(weight=2, priority=0).weight == 2


def test_tenants_weigh() -> None:
    """A tenant's weight multiplies what its requests ask for; a tenant that is not configured has 1."""
    assert read(tenant="gold", weight=0.5).weight == 2.0
    assert read(tenant="gold").weight == 4.0
    assert read(tenant="else", priority=2).weight == 10.0


@pytest.mark.parametrize("tenant", [7, True, ["a"], "a" * 257, "line\nbreak", "\x00"])
def test_bad_tenants(tenant: object) -> None:
    """A tenant is a short name that can stand in a log."""
    with pytest.raises(InputError, match=r"parameter tenant is .*expected a name of at most 256 printable"):
        read(tenant=tenant)
