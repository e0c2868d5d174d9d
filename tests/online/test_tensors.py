import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mosel.core.errors import ExecutionError, InputError
from mosel.core.types import Job
from mosel.models.base import Tensor
from mosel.online.tensors import Declared, JobTensors
from tests.conformance.worlds import inputs, model


def job(requests: int, modalities: tuple[str, ...] = ()) -> Job:
    """Return a job of this size."""
    return Job("j", "m", requests, 0.5, 0, 1, modalities)


@given(st.permutations(range(6)), st.lists(st.integers(1, 5), max_size=2))
def test_outputs_come_in_the_order_of_the_requests(order: list[int], cuts: list[int]) -> None:
    """However the requests were spread over batches, row i of the outputs is request i's."""
    tensors = JobTensors(job(6), Declared(model()), inputs(6))
    edges = [0, *sorted(set(cuts)), 6]
    for start, end in itertools.pairwise(edges):
        requests = order[start:end]
        tensors.keep(requests, {"y": np.array(requests, np.float32)[:, None] * 10})
    assert tensors.outputs()["y"].tolist() == [[10.0 * i] for i in range(6)]


def test_a_request_that_runs_again_gives_its_last_output() -> None:
    """Later outputs of a request replace earlier ones."""
    tensors = JobTensors(job(2), Declared(model()), inputs(2))
    tensors.keep((0, 1), {"y": np.zeros((2, 1))})
    tensors.keep((1,), {"y": np.ones((1, 1))})
    assert tensors.outputs()["y"].tolist() == [[0.0], [1.0]]


def test_rows_are_those_of_the_requests() -> None:
    """Adjacent requests are a view of the input, others a copy; both hold these requests' rows."""
    given_inputs = inputs(5)
    tensors = JobTensors(job(5), Declared(model()), given_inputs)
    assert tensors.rows("wave", (1, 2, 3))[:, 0].tolist() == [1, 2, 3]
    assert np.shares_memory(tensors.rows("wave", (1, 2, 3)), given_inputs["wave"])
    assert tensors.rows("wave", (0, 2, 4))[:, 0].tolist() == [0, 2, 4]


def test_outputs_of_different_shapes_are_an_error() -> None:
    """Batches whose outputs do not fit together fail the job, and the message says what came."""
    tensors = JobTensors(job(2), Declared(model()), inputs(2))
    tensors.keep((0,), {"y": np.zeros((1, 2))})
    tensors.keep((1,), {"y": np.zeros((1, 3))})
    with pytest.raises(ExecutionError, match=r"'y' came in shapes \(2,\) and \(3,\)"):
        tensors.outputs()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wave": None}, "'wave' is none"),
        ({"wave": np.zeros((2, 2), np.float64)}, "float64"),
        ({"frames": np.zeros((3, 3), np.float32)}, r"expected float32 of shape \(2, 3\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    """A missing tensor, a wrong type and a wrong number of requests are told apart in the message."""
    found = {name: array for name, array in ({**inputs(2), **change}).items() if array is not None}
    with pytest.raises(InputError, match=message):
        JobTensors(job(2), Declared(model()), found)  # type: ignore[arg-type]


def test_only_the_jobs_own_modalities_are_asked_for() -> None:
    """A job that lacks a modality need not bring its tensors."""
    tensors = JobTensors(job(1, ("audio",)), Declared(model()), {"wave": np.zeros((1, 2), np.float32)})
    assert tensors.rows("wave", (0,)).shape == (1, 2)


def spoken(*texts: str) -> dict[str, NDArray[Any]]:
    """Return what a batch function returns for these texts: padded to the longest, their lengths beside."""
    longest = max(map(len, texts))
    rows = np.array([list(text.ljust(longest).encode()) for text in texts], np.uint8)
    return {"text": rows, "text_lengths": np.array([len(text) for text in texts])}


RAGGED = (
    Tensor("text", "UINT8", (-1,), limits=(9,), pad=ord("."), lengths=True),
    Tensor("text_lengths", "INT64", ()),
)


def test_ragged_outputs_are_as_long_as_the_jobs_own() -> None:
    """What a longer request of another job made of the batch is cut off, as if the job had run alone."""
    tensors = JobTensors(job(2), Declared(dataclasses.replace(model(), outputs=RAGGED)), inputs(2))
    batch = spoken("ab", "c", "another's")
    tensors.keep((0, 1), {name: rows[:2] for name, rows in batch.items()})
    found = tensors.outputs()
    assert [bytes(row) for row in found["text"]] == [b"ab", b"c "]
    assert found["text_lengths"].tolist() == [2, 1]


def test_ragged_outputs_of_several_batches_are_filled_up() -> None:
    """Each row stands where its request does; shorter ones end with the output's pad value."""
    tensors = JobTensors(job(3), Declared(dataclasses.replace(model(), outputs=RAGGED)), inputs(3))
    tensors.keep((2,), spoken("abcd"))
    tensors.keep((0, 1), spoken("x", ""))
    found = tensors.outputs()
    assert [bytes(row) for row in found["text"]] == [b"x...", b" ...", b"abcd"]
    assert found["text_lengths"].tolist() == [1, 0, 4]
