"""`none+batching`: what modality-agnostic servers do at their best, as a baseline that deserves the name.

All modalities, deadline order, batches across jobs, and a job is dropped whole as soon as its remaining
batches cannot finish in time. Batch size and delay are tuned per profile: the limit is the size with the
most requests per second unless one is given, and a batch never grows so large that the first job, which
could still be served, becomes late by it.
"""

import numpy as np

from mosel.online.jobs import LiveJob
from mosel.online.policies.base import BatchChoice, Decision, View, full_modalities
from mosel.online.tables import ModelTable


def none_batching(view: View) -> Decision:
    """Take requests in deadline order into one full-modality batch; see the module."""
    for row in range(len(view.queue)):
        decision = _with_head(view, row)
        if decision is not None:
            return decision
    return Decision()


def best_size(table: ModelTable, mode: int, bucket: int, limit: int | None) -> int:
    """Return the batch size, up to `limit` if one is given, with the most requests per second."""
    sizes = table.batch_sizes(mode, bucket)
    if limit is not None:
        return int(max(size for size in sizes if size <= max(limit, 1)))
    return int(sizes[np.argmax(sizes / np.maximum(table.latency_ns[mode, bucket, sizes], 1))])


def _with_head(view: View, first: int) -> Decision | None:
    """The batch whose first job is that of row `first`; None if it is better left to a faster worker."""
    jobs = view.queue.jobs
    head = jobs[first]
    mode = _mode(head)
    limit = best_size(head.table, mode, head.bucket, view.options.batch_limit)
    rows = _companions(jobs, first, mode, limit)
    size = _size(view, head, mode, min(limit, sum(len(jobs[row].waiting) for row in rows)))
    if size is None:
        return None
    ripe_ns = min(jobs[row].job.arrival_ns for row in rows) + view.options.batch_delay_ns
    ripe_ns = min(ripe_ns, head.job.deadline_ns - view.margin_ns - sum(head.least_batches_ns))
    if size < limit and view.now_ns < ripe_ns:
        return Decision(wait_until_ns=ripe_ns)
    return Decision(batch=BatchChoice(head.table, mode, head.bucket, _share(jobs, rows, size)))


def _mode(live: LiveJob) -> int:
    return full_modalities(live).batches[0][0]


def _companions(jobs: list[LiveJob], first: int, mode: int, limit: int) -> list[int]:
    """Rows that may share the first job's batch, in deadline order, until it is full."""
    head, rows, requests = jobs[first], [first], len(jobs[first].waiting)
    for row in range(first + 1, len(jobs)):
        if requests >= limit or head.faults:
            break
        other = jobs[row]
        same = other.table is head.table and other.bucket == head.bucket and not other.faults
        if same and _mode(other) == mode:
            rows.append(row)
            requests += len(other.waiting)
    return rows


def _size(view: View, head: LiveJob, mode: int, most: int) -> int | None:
    """The largest profiled size up to `most` that leaves the first job on time, as far as one does.

    Where none does, the job is as well late in the largest, unless a faster worker may still take it.
    """
    sizes = head.table.batch_sizes(mode, head.bucket)
    sizes = sizes[sizes <= most][::-1].tolist()
    for margin_ns in (view.margin_ns, 0) if view.margin_ns else (0,):
        by_ns = head.job.deadline_ns - margin_ns
        for size in sizes:
            if view.end_ns(_batches_ns(head, mode, size)) <= by_ns:
                return int(size)
    return None if view.pools else int(sizes[0])


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
