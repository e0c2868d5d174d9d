from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from mosel.core.errors import ModelError
from mosel.core.types import Job
from mosel.evaluation.payloads import Payload, Payloads
from mosel.frontend.protocol import decode
from mosel.models.base import Modality, Model, Samples, Tensor

WORDS = [np.full(1 + index, index, np.int64) for index in range(5)]


def samples() -> Samples:
    """Five samples whose values are their own number; the words are of different lengths."""
    pixels = np.arange(5, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return Samples({"text": {"words": WORDS}, "image": {"pixels": pixels}}, np.arange(5))


def model(source: Any = samples) -> Model:
    """A model of two modalities."""
    return Model(
        "m",
        (
            Modality("text", (Tensor("words", "INT64", (-1,), limits=(9,), pad=-1),)),
            Modality("image", (Tensor("pixels", "FP32", (3,)),)),
        ),
        (Tensor("scores", "FP32", (5,)),),
        load=lambda *_: print,
        samples=source,
    )


def tensors(payload: Payload) -> dict[str, NDArray[Any]]:
    """What a server reads from the body."""
    call = decode(payload.body, payload.header_length).call
    return {each.name: each.array for each in call.inputs}


def job(requests: int, modalities: tuple[str, ...] = ()) -> Job:
    """A job with an accuracy SLO of 0.75 and a latency SLO of 1.5 s."""
    return Job("a", "m", requests, 0.75, 10, 10 + 1_500_000_000, modalities)


def test_a_body_carries_the_samples_that_it_names() -> None:
    """The tensors are those of the samples at `indices`, shorter ones padded with the tensor's own value."""
    payload = Payloads(model(), seed=1).make(job(3))
    found = tensors(payload)
    assert (found["pixels"][:, 0] == payload.indices).all()
    for row, index in zip(found["words"], payload.indices, strict=True):
        assert (row[: index + 1] == index).all()
        assert (row[index + 1 :] == -1).all()
    assert found["words"].shape == (3, payload.indices.max() + 1)


def test_a_body_carries_the_slos_and_the_jobs_name() -> None:
    """The SLOs travel as parameters, the latency SLO in milliseconds."""
    payload = Payloads(model(), seed=1).make(job(1))
    call = decode(payload.body, payload.header_length).call
    assert call.id == "a"
    assert dict(call.parameters) == {"accuracy_slo": 0.75, "latency_slo_ms": 1500.0}


def test_a_body_carries_what_the_job_is_worth() -> None:
    """Weight, tenant and length travel as parameters where a workload gives them."""
    worth = structs.replace(job(1), weight=2.5, tenant="gold", length=3.0)
    payload = Payloads(model(), seed=1).make(worth)
    told = decode(payload.body, payload.header_length).call.parameters
    assert (told["weight"], told["tenant"], told["length"]) == (2.5, "gold", 3.0)


def test_a_modality_that_the_job_lacks_is_left_out() -> None:
    """Only the job's own modalities are sent."""
    assert list(tensors(Payloads(model(), 0).make(job(2, ("image",))))) == ["pixels"]


def test_samples_are_taken_in_a_seeded_order_that_repeats() -> None:
    """Every sample comes once before any comes twice, in an order that the seed decides."""
    orders = []
    for seed in (3, 3, 4):
        payloads = Payloads(model(), seed)
        orders.append([int(i) for size in (2, 2, 4, 2) for i in payloads.make(job(size)).indices])
    assert sorted(orders[0][:5]) == [0, 1, 2, 3, 4]
    assert orders[0][:5] == orders[0][5:]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


@pytest.mark.parametrize("source", [None, lambda: Samples({}, np.array([]))])
def test_a_model_without_samples_cannot_be_replayed(source: Any) -> None:
    """There is nothing to send without labelled samples."""
    with pytest.raises(ModelError, match="has no labelled samples"):
        Payloads(model(source), 0)


def test_samples_are_of_the_length_that_the_job_says() -> None:
    """With length buckets only samples of the job's bucket are sent; any where no length is said."""
    text = Modality("text", (Tensor("words", "INT64", (-1,), limits=(9,), per_length=1),))
    only = model(lambda: Samples({"text": {"words": WORDS}}, np.arange(5)))
    payloads = Payloads(replace(only, modalities=(text,), length_buckets=(2, 4, 9)), seed=0)

    def sent(length: float | None) -> set[int]:
        return set(payloads.make(structs.replace(job(6), length=length)).indices.tolist())

    assert [sent(length) for length in (1, 3, 4, 9)] == [{0, 1}, {2, 3}, {2, 3}, {4}]
    assert sent(20) == {4}
    assert sent(None) == {0, 1, 2, 3, 4}


def test_where_no_sample_is_as_long_others_are_repeated_up_to_that_length() -> None:
    """Again from their start, each by itself; their labels do not hold for what is sent."""
    text = Modality("text", (Tensor("words", "INT64", (-1,), limits=(8,), per_length=1),))
    spoken = [np.array([1, 2, 3]), np.array([4, 5])]
    only = model(lambda: Samples({"text": {"words": spoken}}, np.arange(2)))
    payloads = Payloads(replace(only, modalities=(text,), length_buckets=(4, 8)), seed=0)
    short, long = (payloads.make(structs.replace(job(2), length=length)) for length in (4, 8))
    assert (short.labelled, long.labelled) == (True, False)
    rows = {tuple(row) for row in tensors(long)["words"].tolist()}
    assert rows == {(1, 2, 3, 1, 2, 3, 1, 2), (4, 5, 4, 5, 4, 5, 4, 5)}


def test_bytes_are_sent_and_filled_up_with_empty_ones() -> None:
    """Samples of BYTES differ in length and in number; shorter ones get values without bytes."""
    words = [np.array([b"\xff" * size] * (1 + size), object) for size in range(3)]
    text = Modality("text", (Tensor("words", "BYTES", (-1,), limits=(9,)),))
    only = replace(
        model(lambda: Samples({"text": {"words": words}}, np.arange(3))), modalities=(text,), framework="numpy"
    )
    payload = Payloads(only, seed=0).make(job(3))
    for row, index in zip(tensors(payload)["words"], payload.indices, strict=True):
        assert row.tolist() == [*words[index].tolist(), *[b""] * (2 - index)]
