"""Quotas: how many requests a second each tenant may send. A tenant without one may send what it likes.

A tenant that has been quiet may send what it saved up over `SAVED_S` at once, and a job larger than that when
it has saved up all of it; the debt is then worked off.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mosel.core.clock import to_s
from mosel.core.errors import RefusedError

SAVED_S = 2.0
EVERYBODY = "*"
"""The quota of each tenant that has none of its own; they share it, so that what is kept stays bounded."""


@dataclass(slots=True)
class _Bucket:
    rate: float
    left: float
    at_ns: int


class Quotas:
    """What each tenant may still send.

    Args:
        rates: requests a second, by tenant.
    """

    def __init__(self, rates: Mapping[str, float] | None = None) -> None:
        self._buckets = {tenant: _Bucket(rate, rate * SAVED_S, 0) for tenant, rate in (rates or {}).items()}

    def take(self, tenant: str, requests: int, now_ns: int) -> None:
        """Count a job against its tenant's quota.

        Raises:
            RefusedError: the quota is used up; it says when to try again.
        """
        bucket = self._buckets.get(tenant) or self._buckets.get(EVERYBODY)
        if bucket is None:
            return
        most = bucket.rate * SAVED_S
        bucket.left = min(most, bucket.left + bucket.rate * to_s(max(0, now_ns - bucket.at_ns)))
        bucket.at_ns = max(now_ns, bucket.at_ns)
        wanted = min(float(requests), most)
        if bucket.left < wanted - 1e-9:
            raise RefusedError(
                f"tenant {tenant!r} is over its quota of {bucket.rate:g} requests a second; try again later",
                (wanted - bucket.left) / bucket.rate,
            )
        bucket.left -= requests
