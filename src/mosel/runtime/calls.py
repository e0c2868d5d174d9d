"""What a batch function is called with and must return, whatever the framework; the seam under `runner.py`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct, field
from numpy.typing import NDArray

from mosel.core.errors import WrongOutputError
from mosel.models.base import BatchFunction, Tensor

Array = NDArray[Any]


class Ran(Struct, frozen=True):
    """What a batch gave: outputs by name, each of shape (batch, …), and how long it took.

    An output may share memory with an input that the model handed through: read it before reusing the input.
    `features` are those of the modalities that ran, where they were asked for.
    """

    outputs: dict[str, Array]
    took_ns: int
    features: Mapping[str, Array] = field(default_factory=dict)


class Staged:
    """A batch that is on its way to the device.

    Args:
        batch: what the model is called with, by keyword.
        began_ns: from when on what it takes is counted: when it began to be laid out, by the monotonic clock.
        arrived: what tells when it is there; the framework's own.
    """

    def __init__(self, batch: Mapping[str, Any], began_ns: int, arrived: Any) -> None:
        self.began_ns, self.arrived = began_ns, arrived
        self._batch = dict(batch)

    def count(self, free_ns: int, now_ns: int) -> None:
        """Count from now on if the device was busy until `free_ns`, and so hid the copies."""
        if self.began_ns < free_ns:
            self.began_ns = now_ns

    def take(self) -> dict[str, Any]:
        """Return the batch and hold it no longer, so that its memory is free once it has run."""
        batch, self._batch = self._batch, {}
        return batch


class Call(Struct, frozen=True):
    """A batch function with what it takes and declares, how errors name it, and how many requests it is for."""

    function: BatchFunction
    tensors: Sequence[Tensor]
    outputs: tuple[Tensor, ...]
    named: str
    batch: int

    @property
    def where(self) -> str:
        """The words that name this call in errors."""
        return f"{self.named} at batch {self.batch}"

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the model's outputs by declared name, in whatever form the framework has them.

        Raises:
            WrongOutputError: one of them is missing.
        """
        found = self.function(**arguments)
        if not isinstance(found, Mapping):
            if len(self.outputs) > 1:
                names = ", ".join(tensor.name for tensor in self.outputs)
                raise WrongOutputError(
                    f"{self.where}: returned one {type(found).__name__}; expected a mapping with {names}"
                )
            found = {self.outputs[0].name: found}
        for tensor in self.outputs:
            if tensor.name not in found:
                given = ", ".join(map(str, found))
                raise WrongOutputError(f"{self.where}: output {tensor.name!r} is missing among {given}")
        return {tensor.name: found[tensor.name] for tensor in self.outputs}


class Backend(Protocol):
    """How a framework runs a batch on one device."""

    @property
    def device(self) -> str:
        """The device as the framework calls it, handed to the model's `load`."""

    @property
    def copies_ahead(self) -> bool:
        """Whether a batch can be copied to the device while another one runs there."""

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return a loaded function as it should be called."""

    def stage(self, tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]], /) -> Staged | None:
        """Begin to copy a batch to the device, in any thread; None where nothing is copied ahead."""

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]], staged: Staged | None = None) -> Ran:
        """Run a batch, which may be `staged`, and time it; raises whatever the model raises."""

    def settle(self, call: Call, inputs: Mapping[str, Sequence[Array]], /) -> bool:
        """Find out which way of running such batches is the quickest; return whether they are replayed."""

    def recover(self) -> None:
        """Give back what a failed batch may have left behind."""
