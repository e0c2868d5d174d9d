"""The parameters of an inference request: SLOs and what a job is worth, read from what a client wrote.

Numbers may come as strings, since some clients' protos carry no floats. What they mean to the scheduler stands
in `core/types.py`; `docs/formats.md` lists them for clients.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from mosel.core.clock import NS_PER_MS
from mosel.core.errors import InputError

LONGEST_SLO_MS = 86_400_000
"""A day: the longest latency SLO; beyond it a deadline says nothing, and times stay far inside 64 bits."""

LEAST_WEIGHT, LARGEST_WEIGHT = 1e-9, 1e9
"""Between these, sums over any queue are exact enough to compare."""

DEFAULT_PRIORITY, LOWEST_PRIORITY = 3, 9
PRIORITY_STEP = 10.0
"""One request of a priority level is worth so many of the next."""

LONGEST_LENGTH = 1e15
TENANT_LIMIT = 256
NS_PER_US = 1_000


class Defaults:
    """What holds where a request says nothing: the model's SLOs, and each tenant's weight (others have 1).

    Attributes:
        wishes: what a request that says nothing at all asks for.
    """

    __slots__ = ("accuracy_slo", "latency_slo_s", "tenants", "wishes")

    def __init__(
        self, accuracy_slo: float, latency_slo_s: float, tenants: Mapping[str, float] | None = None
    ) -> None:
        self.accuracy_slo = accuracy_slo
        self.latency_slo_s = latency_slo_s
        self.tenants = tenants or {}
        self.wishes = _read({}, self)


class Wishes(NamedTuple):
    """What a client asks for its job; see `Job` for what each is."""

    accuracy_slo: float
    latency_ns: int
    weight: float
    tenant: str
    length: float | None


def read_parameters(given: Mapping[str, object], defaults: Defaults) -> Wishes:
    """Return what the parameters of a request say.

    Raises:
        InputError: one is unknown, has no value of its kind, or contradicts another.
    """
    if not given:
        return defaults.wishes
    return _read(given, defaults)


def _read(given: Mapping[str, object], defaults: "Defaults") -> "Wishes":
    for name in given:
        if name not in _KNOWN:
            raise InputError(
                f"parameter {_short(name)} is unknown; expected some of {', '.join(_KNOWN)}: leave it out"
            )
    tenant = _tenant(given)
    return Wishes(
        accuracy_slo=_number(given, "accuracy_slo", defaults.accuracy_slo, 0.0, 1.0),
        latency_ns=_latency_ns(given, defaults.latency_slo_s),
        weight=_weight(given) * defaults.tenants.get(tenant, 1.0),
        tenant=tenant,
        length=_length(given),
    )


_KNOWN = ("accuracy_slo", "latency_slo_ms", "timeout", "weight", "priority", "tenant", "length")


def _latency_ns(given: Mapping[str, object], default_s: float) -> int:
    """Return the least of all limits that are given."""
    latency_ms = _positive(given, "latency_slo_ms", default_s * 1000, LONGEST_SLO_MS)
    longest_us = LONGEST_SLO_MS * 1000
    timeout_us = _positive(given, "timeout", longest_us, longest_us)
    return min(round(latency_ms * NS_PER_MS), round(timeout_us * NS_PER_US))


def _weight(given: Mapping[str, object]) -> float:
    """Return the weight; a priority, as Triton counts them from 1 downwards, stands for one."""
    priority = _number(given, "priority", 0, 0, LOWEST_PRIORITY)
    if priority != int(priority):
        raise InputError(
            f"parameter priority is {given['priority']!r}; expected a whole number: 1 is the highest, "
            "0 the default"
        )
    if priority == 0:
        return _number(given, "weight", 1.0, LEAST_WEIGHT, LARGEST_WEIGHT)
    if given.get("weight") is not None:
        raise InputError("parameters weight and priority are both given; expected one of them")
    return float(PRIORITY_STEP ** (DEFAULT_PRIORITY - priority))


def _length(given: Mapping[str, object]) -> float | None:
    return None if given.get("length") is None else _positive(given, "length", 1.0, LONGEST_LENGTH)


def _tenant(given: Mapping[str, object]) -> str:
    tenant = given.get("tenant")
    if tenant is None:
        return ""
    if not isinstance(tenant, str) or len(tenant) > TENANT_LIMIT or not tenant.isprintable():
        raise InputError(
            f"parameter tenant is {_short(tenant)}; expected a name of at most {TENANT_LIMIT} printable "
            "characters"
        )
    return tenant


def _positive(given: Mapping[str, object], name: str, default: float, highest: float) -> float:
    value = _number(given, name, default, 0.0, highest)
    if value == 0:
        raise InputError(f"parameter {name} is 0; expected more than 0: leave it out for the default")
    return value


def _number(given: Mapping[str, object], name: str, default: float, lowest: float, highest: float) -> float:
    """Return a parameter that is a number, or a number as a string, from `lowest` to `highest`."""
    found = given.get(name)
    if found is None:
        return default
    try:
        value = (
            math.nan if isinstance(found, bool) or not isinstance(found, int | float | str) else float(found)
        )
    except (ValueError, OverflowError):
        value = math.nan
    if not lowest <= value <= highest:
        raise InputError(
            f"parameter {name} is {_short(found)}; expected a number from {lowest:g} to {highest:g}"
        )
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
