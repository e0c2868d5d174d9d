"""What a worker does with a batch: prepare the chosen modalities beside the device, then run on the device.

A batch that the device has no memory for is halved until it has. Nothing here knows sockets, slabs or the event
loop, so a process (`worker.py`) and a thread (`thread_channel.py`) execute batches alike. What is timed, and
how, is `runtime/runner.py`'s business: the profiler measures the very same.
"""

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import ModelFailedError, MoselError, OutOfMemoryError, WrongOutputError
from mosel.models.base import Modality, Model
from mosel.models.registry import find
from mosel.online.wire import Start, Undone, WorkerModel
from mosel.runtime.padding import blank
from mosel.runtime.runner import CorruptInputError, Ran, Runner, Staged, prepare

log = logging.getLogger(__name__)

PREPARING_THREADS = 2
"""Threads that preprocess beside the device thread: while one job's audio is decoded, the next one's can be."""

WARM_UP_LIMIT_S = 1.0
"""Each mode is warmed up at its smallest and largest batch; sizes between only until so much time is spent."""

DETAIL_LIMIT = 500
"""Characters of an error that travel in receipts and logs."""

Arrays = Mapping[str, NDArray[Any]]


class Task(Struct, frozen=True):
    """A batch to run.

    `tensors` holds by arriving name one array (requests, *shape) per part, or, where nothing is to be prepared,
    perhaps one array over all of them. Of a batch that is `judged`, the model's confidence is asked for.
    """

    model: str
    modalities: tuple[str, ...]
    precision: str
    tensors: Mapping[str, Sequence[NDArray[Any]]]
    judged: bool = False


class Prepared(Struct, frozen=True):
    """A batch whose preparation is under way: for each preprocessed modality one future per part.

    `staged` is there where batches are copied to the device ahead; it holds None if this one could not be.
    """

    task: Task
    arrays: Mapping[str, Sequence["Future[dict[str, NDArray[Any]]]"]]
    staged: "Future[Staged | None] | None" = None


class Result(Struct, frozen=True):
    """What came of a batch: outputs of what ran and confidence in each, or `failure`, one line.

    `fits` is as in `events.Finished`.
    """

    took_ns: int = 0
    undone: tuple[Undone, ...] = ()
    outputs: Mapping[str, NDArray[Any]] | None = None
    failure: str | None = None
    confidence: tuple[float, ...] = ()
    fits: int = 0


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
        arrays = {
            modality.name: [
                self._pool.submit(prepare, model, modality.name, part) for part in _parts(task, modality)
            ]
            for modality in map(model.modality, task.modalities)
            if modality.preprocess
        }
        prepared = Prepared(task, arrays)
        if not self._runners[task.model].copies_ahead:
            return prepared
        return replace(prepared, staged=self._copies.submit(self._staged, prepared))

    def run(self, prepared: Prepared) -> Result:
        """Wait for the preparation and run the batch on the device; a model's error becomes the result's.

        Raises:
            Exception: any other error: the device cannot be used any more, and its worker has to end.
        """
        task = prepared.task
        try:
            undone = tuple(_undone(prepared))
            inputs = self._inputs(prepared, {u.part for u in undone})
            if not all(inputs.values()):
                return Result(undone=undone, outputs={})
            try:
                ran, fits = self._run(task, inputs, self._counted(prepared))
            finally:
                self._free_ns = monotonic_ns()
            _check_numbers(task, ran.outputs)
        except MoselError as error:
            log.warning("model %s failed on a batch", task.model, exc_info=True)
            return Result(failure=one_line(error))
        confidence = judge(self._models[task.model], ran.outputs) if task.judged else ()
        return Result(ran.took_ns, undone, ran.outputs, confidence=confidence, fits=fits)

    def warm_up(self) -> None:
        """Run every mode at its smallest and its largest batch size, then as many others as time allows.

        With length buckets these are of the shortest requests; longer ones come last. What may be replayed on
        the device is recorded first, at every batch size.
        """
        self._settle()
        began = time.monotonic()
        for model, mode, size, must in _warm_up_order(self._modes):
            if not must and time.monotonic() - began > WARM_UP_LIMIT_S:
                return
            self._warm_up(model, mode, size, 0)
        for model, mode, bucket in self._longer():
            if time.monotonic() - began > WARM_UP_LIMIT_S:
                return
            self._warm_up(model, mode, 1, bucket)

    def close(self) -> None:
        """End the preparing threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._copies.shutdown(wait=True, cancel_futures=True)

    def _staged(self, prepared: Prepared) -> Staged | None:
        """Copy a batch to the device once it is prepared; None if that fails: it is copied when it runs."""
        task = prepared.task
        try:
            if any(future.exception() for futures in prepared.arrays.values() for future in futures):
                return None
            return self._runners[task.model].stage(task.modalities, self._inputs(prepared, set()))
        except Exception:  # the edge to the device, whose memory the batch that runs may fill
            log.warning("a batch of model %s could not be copied ahead", task.model, exc_info=True)
            return None

    def _counted(self, prepared: Prepared) -> Staged | None:
        """Return what was copied ahead; copies that another batch hid count as nothing."""
        staged = prepared.staged.result() if prepared.staged else None
        if staged is not None:
            staged.count(self._free_ns, monotonic_ns())
        return staged

    def _run(
        self, task: Task, inputs: Mapping[str, Sequence[NDArray[Any]]], staged: Staged | None = None
    ) -> tuple[Ran, int]:
        """Run a batch, in halves if memory does not hold it; with what it came to fit (0: the whole)."""
        size = sum(map(len, next(iter(inputs.values()))))
        try:
            return self._runners[task.model].run(task.modalities, task.precision, inputs, staged), 0
        except OutOfMemoryError as error:
            if size == 1:
                raise
            log.warning("%s; running it in two halves", one_line(error))
        middle = (size + 1) // 2  # here the error, and with it what the failed attempt held, is gone
        halves = [
            self._run(task, {name: _rows(parts, *between) for name, parts in inputs.items()})
            for between in ((0, middle), (middle, size))
        ]
        fits = min(middle, *(fits for _, fits in halves if fits), middle)
        return _joined([ran for ran, _ in halves]), fits

    def _settle(self) -> None:
        """Let each batch size of models that may be replayed find its way, the largest first.

        Smaller ones then find room in the memory that recordings share.
        """
        every = [
            (size, served.name, (mode.modalities, mode.precision))
            for served in self._modes
            if self._runners[served.name].replays
            for mode in served.modes
            for size in mode.sizes
        ]
        for size, name, mode in sorted(every, key=lambda each: each[0], reverse=True):
            self._runners[name].settle(*mode, self._blank(name, mode, size, 0))

    def _warm_up(self, name: str, mode: tuple[tuple[str, ...], str], size: int, bucket: int) -> None:
        self._runners[name].run(*mode, self._blank(name, mode, size, bucket))

    def _blank(
        self, name: str, mode: tuple[tuple[str, ...], str], size: int, bucket: int
    ) -> dict[str, list[NDArray[Any]]]:
        model = self._models[name]
        length = model.length_buckets[bucket] if model.length_buckets else None
        return {tensor: [array] for tensor, array in blank(model, mode[0], size, length).items()}

    def _longer(self) -> Iterator[tuple[str, tuple[tuple[str, ...], str], int]]:
        for served in self._modes:
            for mode in served.modes:
                for bucket in range(1, len(self._models[served.name].length_buckets)):
                    yield served.name, (mode.modalities, mode.precision), bucket

    def _inputs(self, prepared: Prepared, without: set[int]) -> dict[str, list[NDArray[Any]]]:
        inputs: dict[str, list[NDArray[Any]]] = {}
        for modality in map(self._models[prepared.task.model].modality, prepared.task.modalities):
            if modality.preprocess:
                ready = [f.result() for i, f in enumerate(prepared.arrays[modality.name]) if i not in without]
                for tensor in modality.model_inputs:
                    inputs[tensor.name] = [arrays[tensor.name] for arrays in ready]
            else:
                for tensor in modality.inputs:
                    parts = prepared.task.tensors[tensor.name]
                    inputs[tensor.name] = [part for i, part in enumerate(parts) if i not in without]
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


def _rows(parts: Sequence[NDArray[Any]], start: int, stop: int) -> list[NDArray[Any]]:
    """Return the requests from `start` to before `stop`, counted over all parts."""
    found, before = [], 0
    for part in parts:
        rows = part[max(start - before, 0) : max(stop - before, 0)]
        if len(rows):
            found.append(rows)
        before += len(part)
    return found


def _joined(halves: Sequence[Ran]) -> Ran:
    outputs = {}
    for name in halves[0].outputs:
        arrays = [half.outputs[name] for half in halves]
        if len({array.shape[1:] for array in arrays}) > 1:
            raise ModelFailedError(f"output {name!r} of a batch that was run in halves differs in length")
        outputs[name] = np.concatenate(arrays)
    return Ran(outputs, sum(half.took_ns for half in halves))


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
            error = future.exception()
            if error is None or part in seen:
                continue
            if not isinstance(error, CorruptInputError):
                raise error
            seen.add(part)
            yield Undone(part, modality, one_line(error))


def _warm_up_order(
    models: Sequence[WorkerModel],
) -> Iterator[tuple[str, tuple[tuple[str, ...], str], int, bool]]:
    modes = [
        (model.name, (mode.modalities, mode.precision), mode.sizes) for model in models for mode in model.modes
    ]
    for name, mode, sizes in modes:
        for size in sorted({sizes[0], sizes[-1]}):
            yield name, mode, size, True
    between = itertools.zip_longest(*(sizes[1:-1] for _, _, sizes in modes))
    for row in between:
        for (name, mode, _), size in zip(modes, row, strict=True):
            if size is not None:
                yield name, mode, size, False
