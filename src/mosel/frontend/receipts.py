"""A receipt in words: flat values, which every client of the protocol can carry."""

import msgspec

from mosel.core.clock import to_ms, to_s
from mosel.core.types import BatchRun, Receipt
from mosel.frontend.best import Choice
from mosel.frontend.calls import Parameter


def receipt_parameters(receipt: Receipt, choice: Choice | None = None) -> dict[str, Parameter]:
    """Return the receipt as flat values, which every client of the protocol can carry.

    `batches` is a JSON text. Its times, and `arrival_s`, are seconds on the server's own clock, so that
    batches shared by several jobs can be matched; all else is relative to the job.
    """
    job = receipt.job
    found: dict[str, Parameter] = {
        "outcome": receipt.outcome,
        "reason": receipt.reason,
        **({} if choice is None else {"decision": choice}),
        "modes": ";".join([f"{mode}:{count}" for mode, count in receipt.modes]),
        "arrival_s": to_s(job.arrival_ns),
        "decided_ms": to_ms(receipt.decided_ns - job.arrival_ns),
    }
    if receipt.accuracy is not None:
        found["expected_accuracy"] = receipt.accuracy
    if receipt.batches:
        found["queue_ms"] = to_ms(min([run.start_ns for run in receipt.batches]) - job.arrival_ns)
        found["compute_ms"] = to_ms(sum([run.finish_ns - run.start_ns for run in receipt.batches]))
    if receipt.finish_ns is not None:
        found["slack_ms"] = to_ms(job.deadline_ns - receipt.finish_ns)
    found["batches"] = _ENCODE([_batch(run) for run in receipt.batches]).decode()
    return found


_ENCODE = msgspec.json.Encoder().encode


def _batch(run: BatchRun) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {
        "id": run.id,
        "worker": run.worker,
        "mode": run.mode,
        "size": run.size,
        "requests": run.requests,
        "start": to_s(run.start_ns),
        "finish": to_s(run.finish_ns),
    }
    if run.resumed:
        found["resumed"] = ";".join(f"{mode}:{count}" for mode, count in run.resumed)
    return found
