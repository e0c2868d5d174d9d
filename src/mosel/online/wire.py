"""What the engine and a worker say to each other: framed msgpack messages (`frames.py`) on a socket pair.

The order of things:
1. `Start` goes to the worker, once; `Ready` or `StartFailed` comes back.
2. Then `Run` goes to it, at most `SLOTS` unanswered, each in a slot of its own; each is answered with one
   `Done` or `Failed`, in the order in which they were sent. `Forget` may go between them, and has no answer.
3. The engine writes input slab k only while no batch is in slot k; the worker writes output slab k only
   while one is. So no byte is ever written by one and read by the other at the same time.
4. Either side that sees the socket closed knows that the other is gone.

Tensors do not travel here; they stand in the slabs (`slab.py`).
"""

import msgspec

from mosel.online.frames import framed
from mosel.online.kept import LIMIT_BYTES, LIMIT_S
from mosel.online.tensor_layout import TensorLayout

SLOTS = 2
"""One batch running and one waiting."""


class ServedMode(msgspec.Struct, frozen=True, array_like=True):
    """A mode that a worker has to be ready for, with the batch sizes it was profiled at."""

    modalities: tuple[str, ...]
    precision: str
    sizes: tuple[int, ...]


class WorkerModel(msgspec.Struct, frozen=True, array_like=True):
    """A model that a worker serves: `word` finds it (`models/registry.py`), `name` is its name in batches."""

    word: str
    name: str
    modes: tuple[ServedMode, ...]


class Start(msgspec.Struct, frozen=True, array_like=True, tag="start"):
    """Load these models on this device and warm them up.

    The device thread keeps to the CPU cores `cores`; what runs beside it (reading, preparing) to `beside`.
    """

    worker: int
    device: str
    threads: int
    cores: tuple[int, ...]
    beside: tuple[int, ...]
    models: tuple[WorkerModel, ...]
    keep_bytes: int = LIMIT_BYTES
    keep_s: float = LIMIT_S


class Forget(msgspec.Struct, frozen=True, array_like=True, tag="forget"):
    """Let go of the features that are kept of a job; it is over."""

    job: str


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """Run the batch whose tensors stand in input slab `slot`, by now `slab_bytes` long.

    `keep_below` and `resumes` as in `types.Batch`, `first` are the modalities of the stage that is resumed; if
    any of them is set, `parts` names the requests.
    """

    batch: int
    slot: int
    slab_bytes: int
    model: str
    modalities: tuple[str, ...]
    precision: str
    tensors: tuple[TensorLayout, ...]
    judged: bool = False
    keep_below: float | None = None
    first: tuple[str, ...] = ()
    resumes: tuple[bool, ...] = ()
    parts: tuple[tuple[str, tuple[int, ...]], ...] = ()


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The worker is warm."""


class StartFailed(msgspec.Struct, frozen=True, array_like=True, tag="start-failed"):
    """The worker cannot start; `final` if trying again cannot help."""

    detail: str
    final: bool


class Undone(msgspec.Struct, frozen=True, array_like=True):
    """Part `part` of the batch did not run, because this modality could not be decoded."""

    part: int
    modality: str
    detail: str


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """The batch ran; the outputs of its requests, less those of undone parts, stand in output slab `slot`.

    `fits`, `kept` and `whole` as in `events.Finished`.
    """

    batch: int
    slot: int
    slab_bytes: int
    took_ns: int
    undone: tuple[Undone, ...]
    outputs: tuple[TensorLayout, ...]
    confidence: tuple[float, ...] = ()
    fits: int = 0
    kept: tuple[bool, ...] = ()
    whole: bool = False


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The model raised on the batch; `detail` is one line."""

    batch: int
    slot: int
    detail: str


ToWorker = Start | Run | Forget
FromWorker = Ready | StartFailed | Done | Failed

to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_encode = msgspec.msgpack.Encoder().encode


def frame(message: ToWorker | FromWorker) -> bytes:
    """Return a message as bytes with its length in front."""
    return framed(_encode(message))
