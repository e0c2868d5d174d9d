"""A model whose outputs differ in length, in length buckets, behind a real server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from tests.process import serving
from tests.process.serving import Server

pytestmark = pytest.mark.process

SOURCE = """
import numpy as np

from mosel import Modality, Model, Tensor


def load(device, precision):
    def shout(heard, heard_lengths):
        doubled = np.repeat(heard, 2, axis=1)
        return {"said": doubled, "said_lengths": 2 * heard_lengths}

    return shout


model = Model(
    name="small",
    modalities=(Modality("sound", (Tensor("heard", "UINT8", (-1,), (40,), lengths=True, per_length=1),)),),
    outputs=(Tensor("said", "UINT8", (-1,), (80,), lengths=True), Tensor("said_lengths", "INT64", ())),
    load=load,
    framework="numpy",
    max_batch=4,
    latency_slo_s=60.0,
    length_buckets=(8, 40),
    trained=False,
)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready, with a profile that it made for itself."""
    folder = tmp_path_factory.mktemp("ragged")
    (folder / "accuracy.json").write_text('{"sound": 0.5}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "SOURCE", SOURCE)
        running = Server(folder, ("--accuracy", "accuracy.json"), profiled=False)
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def told(server: Server, *words: str) -> tuple[list[str], dict[str, Any]]:
    """Send a job of these words, all of one length, and return what came back and the receipt."""
    rows = np.array([list(word.encode()) for word in words], np.uint8)
    client = server.client()
    heard = triton.InferInput("heard", list(rows.shape), "UINT8")
    heard.set_data_from_numpy(rows)
    result = client.infer("small", [heard])
    client.close()
    said, lengths = result.as_numpy("said"), result.as_numpy("said_lengths")
    texts = [bytes(row[:length]).decode() for row, length in zip(said, lengths, strict=True)]
    assert said.shape == (len(words), lengths.max())
    return texts, result.get_response()["parameters"]


def test_each_job_gets_what_it_would_get_alone(server: Server) -> None:
    """Jobs of unequal lengths at once, in both buckets: every answer is as long as it should be."""
    jobs = [("ab", "cd"), ("x",), ("longer", "almost"), ("y" * 8,), ("z" * 9,), ("q" * 40, "r" * 40)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(lambda job: told(server, *job), jobs))
    for job, (texts, receipt) in zip(jobs, answers, strict=True):
        assert texts == ["".join(letter * 2 for letter in word) for word in job]
        assert receipt["outcome"] == "served"


def test_what_is_too_long_is_refused(server: Server) -> None:
    """One entry over the limit; the input and its limit are named."""
    with pytest.raises(Exception, match=r"input 'heard': shape is \[1, 41\]; expected \[requests, 1 to 40\]"):
        told(server, "w" * 41)
