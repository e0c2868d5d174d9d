"""What a worker makes of a batch: a task, its preparation, and what came of it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from mosel.online.kept import Features
from mosel.online.wire import Undone
from mosel.runtime.calls import Staged


class Task(Struct, frozen=True):
    """A batch to run.

    `tensors` holds by arriving name one array (requests, *shape) per part, or, where nothing is to be prepared,
    perhaps one array over all of them. Of a batch that is `judged`, the model's confidence is asked for.
    `keep_below`, `first`, `resumes` and `parts` as in `wire.Run`.
    """

    model: str
    modalities: tuple[str, ...]
    precision: str
    tensors: Mapping[str, Sequence[NDArray[Any]]]
    judged: bool = False
    keep_below: float | None = None
    first: tuple[str, ...] = ()
    resumes: tuple[bool, ...] = ()
    parts: Sequence[tuple[str, Sequence[int]]] = ()


class Prepared(Struct, frozen=True):
    """A batch whose preparation is under way: for each preprocessed modality one future per part.

    `features` are those that are kept of each request, in the order of the parts; nothing if of none. Where
    they are of a whole part, there is no future for what they were made of. `staged` is there where batches are
    copied to the device ahead; it holds None if this one could not be.
    """

    task: Task
    arrays: Mapping[str, Sequence["Future[dict[str, NDArray[Any]]] | None"]]
    features: Sequence[Features | None] = ()
    staged: "Future[Staged | None] | None" = None


class Result(Struct, frozen=True):
    """What came of a batch: outputs of what ran and confidence in each, or `failure`, one line.

    `fits`, `kept` and `whole` are as in `events.Finished`.
    """

    took_ns: int = 0
    undone: tuple[Undone, ...] = ()
    outputs: Mapping[str, NDArray[Any]] | None = None
    failure: str | None = None
    confidence: tuple[float, ...] = ()
    fits: int = 0
    kept: tuple[bool, ...] = ()
    whole: bool = False
