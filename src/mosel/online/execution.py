"""What a worker does with a batch: prepare the chosen modalities beside the device, then run on the device.

A batch that the device has no memory for is halved until it has. Nothing here knows sockets, slabs or the event
loop, so a process (`worker.py`) and a thread (`thread_channel.py`) execute batches alike. What is timed, and
how, is `runtime/runner.py`'s business: the profiler measures the very same.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import MoselError, OutOfMemoryError, WrongOutputError
from mosel.models.base import Modality, Model
from mosel.models.registry import find
from mosel.online.kept import Features, KeptFeatures
from mosel.online.rows import copied_row, joined_runs, picked, rows_between
from mosel.online.tasks import Prepared, Result, Task
from mosel.online.warming import WarmUp
from mosel.online.wire import Start, Undone, WorkerModel
from mosel.runtime.runner import CorruptInputError, Ran, Runner, Staged, prepare

log = logging.getLogger(__name__)

PREPARING_THREADS = 2
"""Threads that preprocess beside the device thread: while one job's audio is decoded, the next one's can be."""

DETAIL_LIMIT = 500
"""Characters of an error that travel in receipts and logs."""

Arrays = Mapping[str, NDArray[Any]]


class Execution:
    """The models of one worker, loaded on its device.

    Args:
        start: which worker, device and models.

    Raises:
        MoselError: a model cannot be found or loaded.
    """

    def __init__(self, start: Start) -> None:
        self._modes = start.models
        self._models = {model.name: find(model.word) for model in start.models}
        self._runners = {
            model.name: Runner(self._models[model.name], start.device, _precisions(model), start.threads)
            for model in start.models
        }
        self._kept = KeptFeatures(start.keep_bytes, start.keep_s)
        self._pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare")
        self._copies = ThreadPoolExecutor(1, thread_name_prefix="copy")
        self._free_ns = 0

    def works_ahead(self) -> bool:
        """Say whether anything is done for a batch beside the device before it runs there."""
        return self.preprocesses() or any(runner.copies_ahead for runner in self._runners.values())

    def preprocesses(self, model: str | None = None, modalities: Sequence[str] | None = None) -> bool:
        """Say whether any of these modalities has to be prepared part by part; by default of any model's."""
        models = self._models.values() if model is None else [self._models[model]]
        return any(
            modality.preprocess is not None and (modalities is None or modality.name in modalities)
            for found in models
            for modality in found.modalities
        )

    def prepare(self, task: Task) -> Prepared:
        """Begin to preprocess a batch's chosen modalities, in threads beside the device, and to copy them."""
        model = self._models[task.model]
        features = [
            self._kept.take(*one) if wanted else None
            for one, wanted in zip(_requests(task), task.resumes, strict=False)
        ]
        features = features if any(features) else []
        encoded = model.encoded(task.first) if features else ()
        there = [not mask.any() for mask in _missing(task, features)] or [False] * len(task.parts)
        arrays = {
            modality.name: [
                None
                if modality.name in encoded and there[number]
                else self._pool.submit(prepare, model, modality.name, part)
                for number, part in enumerate(_parts(task, modality))
            ]
            for modality in map(model.modality, task.modalities)
            if modality.preprocess
        }
        prepared = Prepared(task, arrays, features)
        if features or not self._runners[task.model].copies_ahead:
            return prepared
        return replace(prepared, staged=self._copies.submit(self._staged, prepared))

    def forget(self, job: str) -> None:
        """Let go of what is kept of a job."""
        self._kept.forget(job)

    def run(self, prepared: Prepared) -> Result:
        """Wait for the preparation and run the batch on the device; a model's error becomes the result's.

        Raises:
            Exception: any other error: the device cannot be used any more, and its worker has to end.
        """
        task = prepared.task
        try:
            undone = tuple(_undone(prepared))
            without = {u.part for u in undone}
            if undone and len(without) == _part_count(prepared):
                return Result(undone=undone, outputs={})
            try:
                ran, fits = self._run_on(prepared, without)
            finally:
                self._free_ns = monotonic_ns()
            _check_numbers(task, ran.outputs)
        except MoselError as error:
            log.warning("model %s failed on a batch", task.model, exc_info=True)
            return Result(failure=one_line(error))
        confidence = judge(self._models[task.model], ran.outputs) if task.judged else ()
        kept = self._keep(task, without, confidence, ran.features)
        found = sum(one is not None for one in prepared.features)
        whole = found < sum(task.resumes)
        return Result(ran.took_ns, undone, ran.outputs, None, confidence, fits, kept, whole)

    def warm_up(self) -> None:
        """Run every mode before a job waits for it."""
        WarmUp(self._models, self._modes, self._runners).run()

    def close(self) -> None:
        """End the preparing threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._copies.shutdown(wait=True, cancel_futures=True)

    def _staged(self, prepared: Prepared) -> Staged | None:
        """Copy a batch to the device once it is prepared; None if that fails: it is copied when it runs."""
        task = prepared.task
        try:
            if next(_undone(prepared), None) is not None:
                return None
            inputs = self._inputs(prepared, task.modalities, set())
            return self._runners[task.model].stage(task.modalities, inputs)
        except Exception:  # the edge to the device, whose memory the batch that runs may fill
            log.warning("a batch of model %s could not be copied ahead", task.model, exc_info=True)
            return None

    def _counted(self, prepared: Prepared) -> Staged | None:
        """Return what was copied ahead; copies that another batch hid count as nothing."""
        staged = prepared.staged.result() if prepared.staged else None
        if staged is not None:
            staged.count(self._free_ns, monotonic_ns())
        return staged

    def _keep(
        self, task: Task, without: set[int], confidence: Sequence[float], features: Arrays
    ) -> tuple[bool, ...]:
        """Keep the features of unsure requests of a first stage; says of which that ran."""
        if task.keep_below is None or not features or not confidence:
            return ()
        ran = [(job, r) for i, (job, own) in enumerate(task.parts) if i not in without for r in own]
        return tuple(
            not sure >= task.keep_below and self._kept.keep(*ran[row], copied_row(features, row))
            for row, sure in enumerate(confidence)
        )

    def _run_on(self, prepared: Prepared, without: set[int]) -> tuple[Ran, int]:
        """Run the batch, less some parts. Of what is resumed only what is new is encoded.

        Requests in it of which nothing is kept run the first stage before, for its features.
        """
        task, model = prepared.task, self._models[prepared.task.model]
        if not prepared.features:
            inputs = self._inputs(prepared, task.modalities, without)
            keep, staged = task.keep_below is not None, self._counted(prepared)
            return self._run(task, task.modalities, inputs, keep=keep, staged=staged)
        encoded, missing = model.encoded(task.first), _missing(task, prepared.features)
        before = fits = 0
        fresh: Iterator[Features] = iter(())
        if any(mask.any() for number, mask in enumerate(missing) if number not in without):
            inputs = self._inputs(prepared, task.first, without, missing)
            first, fits = self._run(task, task.first, inputs, keep=True)
            before = first.took_ns
            fresh = (copied_row(first.features, row) for row in range(len(next(iter(first.features.values())))))
        rows = [one or next(fresh) for one in _left(prepared, without)]
        new = [name for name in task.modalities if name not in encoded]
        inputs = self._inputs(prepared, new, without)
        inputs |= {
            t.name: [one[t.name] for one in rows] for name in encoded for t in model.modality(name).features
        }
        ran, fits_last = self._run(task, task.modalities, inputs, encoded)
        return Ran(ran.outputs, before + ran.took_ns), min(fits or fits_last, fits_last or fits)

    def _run(
        self,
        task: Task,
        modalities: tuple[str, ...],
        inputs: Mapping[str, Sequence[NDArray[Any]]],
        known: Sequence[str] = (),
        *,
        keep: bool = False,
        staged: Staged | None = None,
    ) -> tuple[Ran, int]:
        """Run a batch, in halves if memory does not hold it; with what it came to fit (0: the whole)."""
        size = sum(map(len, next(iter(inputs.values()))))
        try:
            runner = self._runners[task.model]
            return runner.run(modalities, task.precision, inputs, staged, known=known, keep=keep), 0
        except OutOfMemoryError as error:
            if size == 1:
                raise
            log.warning("%s; running it in two halves", one_line(error))
        middle = (size + 1) // 2  # here the error, and with it what the failed attempt held, is gone
        halves = [
            self._run(
                task,
                modalities,
                {name: rows_between(parts, *between) for name, parts in inputs.items()},
                known,
                keep=keep,
            )
            for between in ((0, middle), (middle, size))
        ]
        fits = min(middle, *(fits for _, fits in halves if fits), middle)
        return joined_runs([ran for ran, _ in halves]), fits

    def _inputs(
        self,
        prepared: Prepared,
        modalities: Sequence[str],
        without: set[int],
        only: Sequence[NDArray[np.bool_]] = (),
    ) -> dict[str, list[NDArray[Any]]]:
        """What the model takes of these modalities, less some parts; of each perhaps `only` some requests."""
        inputs: dict[str, list[NDArray[Any]]] = {}
        for modality in map(self._models[prepared.task.model].modality, modalities):
            if modality.preprocess:
                futures = prepared.arrays[modality.name]
                ready = {i: f.result() for i, f in enumerate(futures) if f is not None and i not in without}
                for tensor in modality.model_inputs:
                    inputs[tensor.name] = picked({i: one[tensor.name] for i, one in ready.items()}, only)
            else:
                for tensor in modality.inputs:
                    given = prepared.task.tensors[tensor.name]
                    parts = {i: part for i, part in enumerate(given) if i not in without}
                    one = len(given) == 1 < len(only)  # one array over all parts
                    inputs[tensor.name] = picked(parts, [np.concatenate(only)] if one else only)
        return inputs


def judge(model: Model, outputs: Arrays) -> tuple[float, ...]:
    """Return the model's confidence in each of its answers; nothing if it has none, and all are unsure."""
    if model.confidence_of is None:
        return ()
    try:
        found = np.asarray(model.confidence_of(outputs), np.float64)
    except Exception:  # the edge to functions that are not ours
        log.warning("the confidence of model %s raised", model.name, exc_info=True)
        return ()
    count = len(next(iter(outputs.values())))
    if found.shape != (count,):
        log.warning("the confidence of model %s has shape %s; expected %s", model.name, found.shape, (count,))
        return ()
    return tuple(found.tolist())


def one_line(error: BaseException) -> str:
    """Return an error as one line of bounded length: what it says, and its type if it is not one of ours."""
    kind = "" if isinstance(error, MoselError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= DETAIL_LIMIT else text[: DETAIL_LIMIT - 1] + "…"


def _requests(task: Task) -> list[tuple[str, int]]:
    return [(job, request) for job, requests in task.parts for request in requests]


def _missing(task: Task, features: Sequence[Features | None]) -> list[NDArray[np.bool_]]:
    """Of each part, which requests nothing is kept of."""
    if not features:
        return []
    kept = iter(features)
    return [np.array([next(kept) is None for _ in requests]) for _, requests in task.parts]


def _part_count(prepared: Prepared) -> int:
    """Of how many parts the batch is, where they are prepared one by one."""
    return len(next(iter(prepared.arrays.values()), ()))


def _left(prepared: Prepared, without: set[int]) -> list[Features | None]:
    """What is kept of the requests that run."""
    parts = [i for i, (_, requests) in enumerate(prepared.task.parts) for _ in requests]
    return [one for part, one in zip(parts, prepared.features, strict=True) if part not in without]


def _check_numbers(task: Task, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Refuse outputs that hold NaN: they would be served as if they were an answer. Infinities may be meant."""
    for name, array in outputs.items():
        if array.dtype.kind == "f" and array.size and np.isnan(array.min()):  # the least is NaN if any is
            rows = np.isnan(array.reshape(len(array), -1)).any(axis=1)
            raise WrongOutputError(
                f"model {task.model!r}: output {name!r} is not a number for {int(rows.sum())} of the batch's "
                f"{len(array)} requests; expected numbers"
            )


def _precisions(model: WorkerModel) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mode.precision for mode in model.modes))


def _parts(task: Task, modality: Modality) -> Iterator[dict[str, NDArray[Any]]]:
    names = [tensor.name for tensor in modality.inputs]
    for arrays in zip(*(task.tensors[name] for name in names), strict=True):
        yield dict(zip(names, arrays, strict=True))


def _undone(prepared: Prepared) -> Iterator[Undone]:
    """Yield the parts with a corrupt modality, each once; any other error of the preparation is raised."""
    seen: set[int] = set()
    for modality, futures in prepared.arrays.items():
        for part, future in enumerate(futures):
            error = None if future is None else future.exception()
            if error is None or part in seen:
                continue
            if not isinstance(error, CorruptInputError):
                raise error
            seen.add(part)
            yield Undone(part, modality, one_line(error))
