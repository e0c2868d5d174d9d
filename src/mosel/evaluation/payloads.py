"""Bodies of inference requests made from a model's labelled samples, with raw tensors (`docs/formats.md`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mosel.core.clock import to_ms
from mosel.core.errors import ModelError
from mosel.core.types import Job
from mosel.models.base import Model, Samples, Tensor
from mosel.models.datatypes import to_wire
from mosel.runtime.padding import repeated

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Payload:
    """A request body, the length of the JSON object that it starts with, and the samples that it carries.

    `labelled` is false where the samples were brought to another length, for which their labels do not hold.
    """

    body: bytes
    header_length: int
    indices: NDArray[np.int64]
    labelled: bool = True


class Payloads:
    """Makes each job's body: its requests are the next samples of a seeded order that repeats.

    Raises:
        ModelError: the model has no labelled samples.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self._model = model
        self._samples = labelled_samples(model)
        self._order = np.random.default_rng(seed).permutation(len(self._samples))
        self._lengths = _lengths(model, self._samples)
        self._next = 0

    @property
    def labels(self) -> NDArray[Any]:
        """The samples' labels, which `Payload.indices` point into."""
        return self._samples.labels

    def make(self, job: Job) -> Payload:
        """Return the body of `job`; consecutive calls use consecutive samples.

        Of a model with length buckets they are samples of the job's bucket; where there are none, any others,
        again from their start up to the job's length.
        """
        places = np.arange(self._next, self._next + job.requests)
        self._next += job.requests
        of_bucket = self._of_bucket(job.length)
        fitting = of_bucket if len(of_bucket) else self._order
        indices = fitting[places % len(fitting)]
        described: list[dict[str, Any]] = []
        raw: list[bytes] = []
        for tensor, array in self._tensors(job, indices, None if len(of_bucket) else job.length):
            sent = to_wire(array, tensor.datatype)
            raw.append(sent.tobytes())
            described.append(
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": sent.nbytes},
                }
            )
        head = orjson.dumps({"id": job.id, "parameters": _parameters(job), "inputs": described})
        return Payload(b"".join((head, *raw)), len(head), indices, labelled=len(of_bucket) > 0)

    def _of_bucket(self, length: float | None) -> NDArray[np.int64]:
        limits = self._model.length_buckets
        if length is None or not limits:
            return self._order
        buckets = np.searchsorted(limits, self._lengths[self._order])
        found: NDArray[np.int64] = self._order[buckets == min(np.searchsorted(limits, length), len(limits) - 1)]
        return found

    def _tensors(
        self, job: Job, indices: NDArray[np.int64], length: float | None
    ) -> Iterator[tuple[Tensor, NDArray[Any]]]:
        for modality in self._model.modalities:
            if job.modalities and modality.name not in job.modalities:
                continue
            for tensor in modality.inputs:
                values = self._samples.inputs[modality.name][tensor.name]
                yield tensor, _gathered(values, indices, tensor, length)


def labelled_samples(model: Model) -> Samples:
    """Return the model's labelled samples.

    Raises:
        ModelError: it has none.
    """
    samples = model.samples() if model.samples else None
    if samples is None or not len(samples):
        raise ModelError(f"model {model.name!r} has no labelled samples; a replay sends these as its requests")
    return samples


def _lengths(model: Model, samples: Samples) -> NDArray[np.float64]:
    """Return how long each sample is, 0 where no tensor tells."""
    tensors = {t.name: samples.inputs[m.name][t.name] for m in model.modalities for t in m.inputs}
    lengths = [
        model.length_of({name: np.shape(values[index]) for name, values in tensors.items()})
        for index in range(len(samples) if model.length_buckets else 0)
    ]
    return np.array([length or 0.0 for length in lengths])


def _parameters(job: Job) -> dict[str, Any]:
    slo_ms = to_ms(job.deadline_ns - job.arrival_ns)
    found: dict[str, Any] = {
        "accuracy_slo": job.accuracy_slo,
        "latency_slo_ms": slo_ms,
        "binary_data_output": True,
    }
    if job.weight != 1:
        found["weight"] = job.weight
    if job.tenant:
        found["tenant"] = job.tenant
    if job.length is not None:
        found["length"] = job.length
    return found


def _gathered(
    values: NDArray[Any] | Sequence[NDArray[Any]],
    indices: NDArray[np.int64],
    tensor: Tensor,
    length: float | None,
) -> NDArray[Any]:
    """Return the samples as one array, those of other lengths padded to the longest, or all of `length`."""
    dtype = np.dtype(tensor.dtype)
    if isinstance(values, np.ndarray):
        whole = np.asarray(values[indices], dtype)
        return whole if length is None else repeated(tensor, whole, length)
    chosen = [np.asarray(values[index], dtype) for index in indices]
    if length is not None:
        chosen = [repeated(tensor, each[None], length)[0] for each in chosen]
    shape = tuple(int(size) for size in np.max([each.shape for each in chosen], axis=0))
    padded = np.full((len(chosen), *shape), tensor.filler, dtype)
    for row, each in zip(padded, chosen, strict=True):
        row[tuple(slice(size) for size in each.shape)] = each
    return padded
