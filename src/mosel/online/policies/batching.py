"""`none+batching`: what modality-agnostic servers do at their best, as a baseline that deserves the name.

All modalities, deadline order, batches across jobs, and a job is dropped whole as soon as its remaining
batches cannot finish in time. Batch size and delay are tuned per profile: the limit is the size with the
most requests per second unless one is given. A batch never grows so large that its first job, which could
still be served, becomes late by it. Where more waits than one batch of the best size (`CROWDED`), it does not
shrink for that job either, which is passed over, as by servers whose queues have a timeout: who always serves
the most urgent runs small batches for jobs at the edge of their deadlines, and falls ever further behind.
"""

import math
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from mosel.online.jobs import LiveJob
from mosel.online.policies.base import BatchChoice, Decision, View, full_modalities
from mosel.online.tables import ModelTable

CROWDED = 1.5
"""Jobs are passed over where so many batches of the best size wait. On made-up profiles and AV-digits at 1 to 5
times capacity: at 1 fewer are served at capacity, at 2 or more fewer under overload."""


class _Found(NamedTuple):
    """What could be done with a job first: whether its batch is full, and whether more waits than that."""

    decision: Decision
    full: bool
    crowded: bool


def none_batching(view: View) -> Decision:
    """Take requests in deadline order into one full-modality batch; see the module."""
    smaller: _Found | None = None
    late = []
    for row in range(len(view.queue)):
        found = _with_head(view, row)
        if found is None:
            late.append(row)
            continue
        smaller = found if found.full else smaller or found
        if smaller.full or not smaller.crowded:
            break
    # Of workers that are alike none is free before this one; where they differ a faster one may be in time.
    drop = () if view.pools else tuple(late)
    return replace(Decision() if smaller is None else smaller.decision, drop=drop)


def best_size(table: ModelTable, mode: int, bucket: int, limit: int | None) -> int:
    """Return the batch size, up to `limit` if one is given, with the most requests per second."""
    sizes = table.batch_sizes(mode, bucket)
    if limit is not None:
        return int(max(size for size in sizes if size <= max(limit, 1)))
    return int(sizes[np.argmax(sizes / np.maximum(table.latency_ns[mode, bucket, sizes], 1))])


def _with_head(view: View, first: int) -> _Found | None:
    """The batch whose first job is that of row `first`; None if this worker would be late with it."""
    jobs = view.queue.jobs
    head = jobs[first]
    mode = _mode(head)
    limit = best_size(head.table, mode, head.bucket, view.options.batch_limit)
    rows = _companions(jobs, first, mode, math.ceil(CROWDED * limit))
    waiting = sum(len(jobs[row].waiting) for row in rows)
    size = _size(view, head, mode, min(limit, waiting))
    if size is None:
        return None
    ripe_ns = min(jobs[row].job.arrival_ns for row in rows) + view.options.batch_delay_ns
    ripe_ns = min(ripe_ns, head.job.deadline_ns - view.margin_ns - sum(head.least_batches_ns))
    if waiting < limit and view.now_ns < ripe_ns:
        return _Found(Decision(wait_until_ns=ripe_ns), full=False, crowded=False)
    batch = BatchChoice(head.table, mode, head.bucket, _share(jobs, rows, size))
    return _Found(Decision(batch=batch), size == limit, waiting >= CROWDED * limit)


def _mode(live: LiveJob) -> int:
    return full_modalities(live).batches[0][0]


def _companions(jobs: list[LiveJob], first: int, mode: int, enough: int) -> list[int]:
    """Rows that may share the first job's batch, in deadline order, until there are enough requests."""
    head, rows, requests = jobs[first], [first], len(jobs[first].waiting)
    for row in range(first + 1, len(jobs)):
        if requests >= enough or head.faults:
            break
        other = jobs[row]
        same = other.table is head.table and other.bucket == head.bucket and not other.faults
        if same and _mode(other) == mode:
            rows.append(row)
            requests += len(other.waiting)
    return rows


def _size(view: View, head: LiveJob, mode: int, most: int) -> int | None:
    """The largest profiled size up to `most` that leaves the first job on time; None if none does.

    Then it is not for this worker: a faster one takes it, or it is dropped.
    """
    profiled = head.table.batch_sizes(mode, head.bucket)
    # Last the job's own best batch, which may be larger than what is best across jobs.
    sizes = [*profiled[profiled <= most][::-1].tolist(), full_modalities(head).batches[0][1]]
    for margin_ns in (view.margin_ns, 0) if view.margin_ns else (0,):
        by_ns = head.job.deadline_ns - margin_ns
        for size in sizes:
            if view.end_ns(_batches_ns(head, mode, size)) <= by_ns:
                return int(size)
    return None


def _batches_ns(head: LiveJob, mode: int, size: int) -> list[int]:
    """The latencies of the first job's batches if the next one has `size` requests."""
    table = head.table
    left = max(len(head.waiting) - size, 0)
    rest = head.batches_ns(table.single_mode(mode, head.bucket, left))
    return [int(table.latency_ns[mode, head.bucket, size]), *rest]


def _share(jobs: list[LiveJob], rows: list[int], size: int) -> tuple[tuple[int, int], ...]:
    parts = []
    for row in rows:
        count = min(size, len(jobs[row].waiting))
        if count:
            parts.append((row, count))
            size -= count
    return tuple(parts)
