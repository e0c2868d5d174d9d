"""What became of the calls for each model, in the form of Triton's statistics extension.

A call is what Triton calls a request, its first dimension are Triton's inferences. Times are nanoseconds, added
up over calls: `compute_input` from arrival until the job was handed to the engine, `queue` from then until its
first batch began, `compute_infer` its batches, `compute_output` from the last one's end until it was answered.
Of a batch only the time on the device is known, copies included; it is told as `compute_infer`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mosel.core.clock import NS_PER_MS
from mosel.core.types import Batch, Job, Receipt

PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass(slots=True)
class _Sum:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        if ns > 0:
            self.ns += ns

    def told(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


class _OfModel:
    """One model's sums."""

    __slots__ = ("inferences", "last_ms", *PARTS)

    def __init__(self) -> None:
        self.inferences = self.last_ms = 0
        self.success, self.fail, self.queue = _Sum(), _Sum(), _Sum()
        self.compute_input, self.compute_infer, self.compute_output = _Sum(), _Sum(), _Sum()


class Statistics:
    """Adds up what the service answers.

    Args:
        models: the names of the models that are served.
        wall_ns: the time of day, in nanoseconds since 1970.
    """

    def __init__(
        self,
        models: Iterable[str],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._of = {name: _OfModel() for name in models}
        self._runs: dict[tuple[str, int], _Sum] = {}
        self._wall_ns = wall_ns

    def answered(self, receipt: Receipt, handed_in_ns: int, now_ns: int) -> None:
        """Count a job that has its outcome and was handed to the engine at `handed_in_ns`."""
        of, arrival_ns = self._of[receipt.job.model], receipt.job.arrival_ns
        if receipt.finish_ns is None:
            of.fail.add(now_ns - arrival_ns)
            return
        of.last_ms = self._wall_ns() // NS_PER_MS
        of.inferences += receipt.job.requests
        of.success.add(now_ns - arrival_ns)
        of.compute_input.add(handed_in_ns - arrival_ns)
        of.compute_output.add(now_ns - receipt.finish_ns)
        if receipt.batches:
            of.queue.add(min([run.start_ns for run in receipt.batches]) - handed_in_ns)
            of.compute_infer.add(sum([run.finish_ns - run.start_ns for run in receipt.batches]))

    def ran(self, batch: Batch, took_ns: int) -> None:
        """Count a batch that ran."""
        self._runs.setdefault((batch.model, batch.size), _Sum()).add(took_ns)

    def failed(self, job: Job, now_ns: int) -> None:
        """Count a job whose client went away, or that the engine did not take."""
        self._of[job.model].fail.add(now_ns - job.arrival_ns)

    def of(self, name: str, version: str = "") -> dict[str, object]:
        """Return the statistics of the model called `name`."""
        of = self._of[name]
        runs = {size: run for (model, size), run in self._runs.items() if model == name}
        return {
            "name": name,
            "version": version,
            "last_inference": of.last_ms,
            "inference_count": of.inferences,
            "execution_count": sum(run.count for run in runs.values()),
            "inference_stats": {part: getattr(of, part).told() for part in PARTS},
            "batch_stats": [_batch(size, runs[size]) for size in sorted(runs)],
        }


def _batch(size: int, run: _Sum) -> dict[str, object]:
    nothing = {"count": run.count, "ns": 0}
    return {
        "batch_size": size,
        "compute_input": nothing,
        "compute_infer": run.told(),
        "compute_output": nothing,
    }
