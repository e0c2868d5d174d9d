"""Quotas: how many requests a second each tenant may send. A tenant without one may send what it likes.

A tenant that has been quiet may send what it saved up over `SAVED_S` at once, and a job larger than that when
it has saved up all of it; the debt is then worked off.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mosel.core.clock import to_s
from mosel.core.errors import RefusedError

SAVED_S = 2.0
EVERYBODY = "*"
"""The quota of each tenant that has none of its own; they share it, so that what is kept stays bounded."""


@dataclass(slots=True)
class Bucket:
    """What a tenant may still send.

    Attributes:
        row: which one it is.
        rate: requests a second that it gets.
        left: requests, as of `at_ns`.
        at_ns: on the server's clock.
    """

    row: int
    rate: float
    left: float
    at_ns: int


class Shelf(Protocol):
    """Where buckets stand that several processes take from."""

    def one(self, bucket: Bucket) -> AbstractContextManager[None]:
        """Let nobody else have this bucket inside the block, and let it be as the last one left it."""


class Quotas:
    """What each tenant may still send.

    Args:
        rates: requests a second, by tenant.
        shelf: where buckets stand if other processes take from them too.
    """

    def __init__(self, rates: Mapping[str, float] | None = None, shelf: Shelf | None = None) -> None:
        self._buckets = {
            tenant: Bucket(row, rate, rate * SAVED_S, 0)
            for row, (tenant, rate) in enumerate((rates or {}).items())
        }
        self._shelf = shelf

    def take(self, tenant: str, requests: int, now_ns: int) -> None:
        """Count a job against its tenant's quota.

        Raises:
            RefusedError: the quota is used up; it says when to try again.
        """
        bucket = self._buckets.get(tenant) or self._buckets.get(EVERYBODY)
        if bucket is None:
            return
        if self._shelf is None:
            _take(bucket, tenant, requests, now_ns)
            return
        with self._shelf.one(bucket):
            _take(bucket, tenant, requests, now_ns)


def _take(bucket: Bucket, tenant: str, requests: int, now_ns: int) -> None:
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
