"""One batch on one device: pad, copy, run, time. The profiler times exactly what the worker executes (§4.2).

What is timed is what a batch occupies its device for: padding and joining the parts, copies in, the model,
copies out, device-synchronised. Queues, deadlines and processes are not known here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from mosel.core.errors import (
    CorruptInputError,
    ModelFailedError,
    MoselError,
    OutOfMemoryError,
    WrongOutputError,
)
from mosel.core.types import mode_name
from mosel.models.base import BatchFunction, Model, Tensor
from mosel.runtime.calls import (
    Backend,
    Call,
    Ran,
    Staged,
)
from mosel.runtime.device import describe
from mosel.runtime.on_host import NumpyBackend, shape_problem

__all__ = ["CorruptInputError", "ModelFailedError", "Ran", "Runner", "Staged", "WrongOutputError", "prepare"]

Array = NDArray[Any]
T = TypeVar("T")


def prepare(model: Model, modality: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return what the model takes of one modality of one job; `arrays` are by tensor name, as they arrived.

    Raises:
        CorruptInputError: preprocessing raised, or gave something else than the modality declares.
    """
    declared = model.modality(modality)
    if declared.preprocess is None:
        return dict(arrays)
    requests = len(arrays[declared.inputs[0].name])
    try:
        prepared = dict(declared.preprocess(arrays))
    except Exception as error:
        raise CorruptInputError(f"modality {modality!r} cannot be decoded: {_line(error)}", modality) from error
    for tensor in declared.model_inputs:
        problem = shape_problem(tensor, prepared.get(tensor.name), requests)
        if problem:
            raise CorruptInputError(f"modality {modality!r}: its preprocessing gave {problem}", modality)
    return {tensor.name: prepared[tensor.name] for tensor in declared.model_inputs}


class Runner:
    """A model on one device, loaded at every precision asked for.

    `threads` is how many CPU threads torch uses; the caller pins (`device.pin`) before it makes a runner.

    Raises:
        UsageError: there is no such device, or torch is missing.
        ModelFailedError: the model cannot be loaded.
    """

    def __init__(self, model: Model, device: str, precisions: Sequence[str], threads: int = 1) -> None:
        self._model = model
        self._backend = _backend(model, device, threads)
        self._functions = {precision: self._load(precision) for precision in precisions}
        self._chosen: dict[tuple[str, ...], tuple[list[Tensor], str]] = {}

    @property
    def copies_ahead(self) -> bool:
        """Whether `stage` copies anything."""
        return self._backend.copies_ahead

    @property
    def replays(self) -> bool:
        """Whether `settle` has anything to find out."""
        return self._model.replayable and self._backend.copies_ahead

    def stage(self, modalities: tuple[str, ...], inputs: Mapping[str, Sequence[Array]]) -> Staged | None:
        """Begin to copy a batch to the device, in any thread, while another one may run; see `run`.

        Raises:
            Exception: it cannot be copied. `run` does it then.
        """
        return self._backend.stage(self._tensors(modalities), inputs)

    def settle(
        self, modalities: tuple[str, ...], precision: str, inputs: Mapping[str, Sequence[Array]]
    ) -> bool:
        """Find out, once, which way of running such batches is the quickest; return whether they are replayed.

        For before a server is ready, and while nothing else runs. Parameters are as for `run`.
        """
        return self.replays and self._guarded(
            self._backend.settle, self._call(modalities, precision, inputs), inputs
        )

    def run(
        self,
        modalities: tuple[str, ...],
        precision: str,
        inputs: Mapping[str, Sequence[Array]],
        staged: Staged | None = None,
        *,
        known: Collection[str] = (),
        keep: bool = False,
    ) -> Ran:
        """Run one batch in one mode.

        Args:
            modalities: the mode's, in the model's order.
            precision: one of those loaded.
            inputs: by tensor name (`model_inputs` of these modalities) one array per part of the batch, each
                of shape (requests, *shape). They are not written to, unless the model itself writes to what it
                is given.
            staged: what `stage` returned for these inputs, if it was called.
            known: the modalities of which `inputs` has the features instead.
            keep: whether to return the features of the others.

        Raises:
            ModelFailedError: the model raised; `OutOfMemoryError` if for want of memory.
            WrongOutputError: an output is missing, or has another shape or type than declared.
        """
        call = self._call(modalities, precision, inputs, known, keep=keep)
        ran = self._guarded(self._backend.run, call, inputs, staged)
        for tensor in call.outputs:
            problem = shape_problem(tensor, ran.outputs[tensor.name], call.batch)
            if problem:
                raise WrongOutputError(f"{call.where}: gave output {problem}")
        if not keep:
            return ran
        kept = {
            tensor.name: ran.outputs.pop(tensor.name) for tensor in call.outputs[len(self._model.outputs) :]
        }
        return Ran(ran.outputs, ran.took_ns, kept) if kept else ran

    def _call(
        self,
        modalities: tuple[str, ...],
        precision: str,
        inputs: Mapping[str, Sequence[Array]],
        known: Collection[str] = (),
        *,
        keep: bool = False,
    ) -> Call:
        tensors, named = self._of(modalities)
        if known:
            tensors = self._tensors(modalities, known)
        outputs = self._model.outputs
        if keep:
            new = [name for name in modalities if name not in known]
            outputs += tuple([tensor for name in new for tensor in self._model.modality(name).features])
        return Call(self._functions[precision], tensors, outputs, named, _requests(tensors, inputs))

    def _of(self, modalities: tuple[str, ...]) -> tuple[list[Tensor], str]:
        """Return what these modalities are made of, and how errors name the mode; found once."""
        found = self._chosen.get(modalities)
        if found is None:
            where = f"model {self._model.name!r} in mode {mode_name(modalities)}"
            found = self._chosen[modalities] = self._tensors(modalities), where
        return found

    def _tensors(self, modalities: tuple[str, ...], known: Collection[str] = ()) -> list[Tensor]:
        chosen = [self._model.modality(name) for name in modalities]
        return [t for each in chosen for t in (each.features if each.name in known else each.model_inputs)]

    def _guarded(self, work: Callable[..., T], call: Call, *given: Any) -> T:
        try:
            return work(call, *given)
        except MoselError:
            raise
        except Exception as error:
            self._backend.recover()
            kind = OutOfMemoryError if _lacked_memory(error) else ModelFailedError
            raise kind(f"{call.where}: {_line(error)}") from error

    def _load(self, precision: str) -> BatchFunction:
        try:
            function = self._model.load(self._backend.device, precision)
        except MoselError:
            raise
        except Exception as error:
            self._backend.recover()
            raise ModelFailedError(
                f"model {self._model.name!r} cannot be loaded on {self._backend.device} at {precision}: "
                f"{_line(error)}"
            ) from error
        return self._backend.ready(function)


def _backend(model: Model, device: str, threads: int) -> Backend:
    if model.framework == "numpy":
        return NumpyBackend()
    describe(device)
    if device == "cpu":
        from mosel.runtime.on_torch import CpuBackend  # torch is an optional extra

        return CpuBackend(threads)
    from mosel.runtime.on_cuda import CudaBackend

    return CudaBackend(device)


def _requests(tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]]) -> int:
    return sum([len(part) for part in inputs[tensors[0].name]])


def _lacked_memory(error: BaseException) -> bool:
    """Whether this is how Python, numpy or torch says that there is no memory; torch may not be installed."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in str(error) for words in ("can't allocate memory", "STATUS_ALLOC_FAILED"))
    )


def _line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
