import os

import pytest

from mosel.core.errors import UsageError
from mosel.core.types import Batch, Part
from mosel.online.serving import (
    EngineConfig,
    ModeTensors,
    ServedModel,
    available_cores,
    patience_of,
    served_modes,
    server_cores,
    start_message,
)
from tests.conformance.worlds import model, profile

SERVED = ServedModel("some:where", model(), profile())
CORES = available_cores()


def test_every_mode_is_known_by_its_tensors() -> None:
    """A mode's tensors are those that its modalities arrive in, in the model's order."""
    assert served_modes(SERVED)["audio+video"] == ModeTensors(("audio", "video"), "float32", ("wave", "frames"))


def test_a_worker_is_told_its_models_modes_and_sizes() -> None:
    """What a worker warms up is what the profile has."""
    start = start_message(0, [SERVED], EngineConfig(threads=1))
    [found] = start.models
    assert (found.word, found.name) == ("some:where", "m")
    assert [mode.modalities for mode in found.modes] == [("audio",), ("video",), ("audio", "video")]
    assert all(mode.sizes == (1, 2, 3, 4, 8) for mode in found.modes)


def test_on_cuda_each_worker_has_a_device_of_its_own() -> None:
    """`cuda` spreads workers over devices; a device that was named is kept."""
    devices = [start_message(i, [SERVED], EngineConfig(device="cuda")).device for i in range(2)]
    assert devices == ["cuda:0", "cuda:1"]
    assert start_message(1, [SERVED], EngineConfig(device="cuda:5")).device == "cuda:5"


def test_the_server_keeps_off_the_workers_cores() -> None:
    """Where there are cores enough, none is both a worker's and the server's; there is always one for it."""
    worker = start_message(0, [SERVED], EngineConfig())
    assert set(worker.cores) | set(server_cores(EngineConfig())) == set(CORES)
    if len(CORES) > 1:
        assert not set(worker.cores) & set(worker.beside)
    assert server_cores(EngineConfig(workers=len(CORES)))


def test_more_threads_than_cores_is_an_error() -> None:
    """The message says how many there are."""
    with pytest.raises(UsageError, match=f"may use {len(CORES)} CPU cores"):
        start_message(0, [SERVED], EngineConfig(threads=len(CORES) + 1))


def test_the_cores_are_those_of_the_process() -> None:
    """A server that was itself limited to some cores shares out only these."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {CORES[0]})
        assert available_cores() == (CORES[0],)
        assert server_cores(EngineConfig()) == (CORES[0],)
    finally:
        os.sched_setaffinity(0, before)


def test_how_long_a_batch_may_take_follows_the_profile() -> None:
    """The 99th percentile of its mode, bucket and size, whatever the scheduler expected."""
    found = profile()
    served = ServedModel("some:where", model(), found)
    p99_ns = patience_of([served], EngineConfig()).p99_ns
    batch = Batch(1, 0, "m", "audio+video", 0, (Part("a", (0, 1)), Part("b", (0,))), 1)
    assert p99_ns(batch) == round(found.modes[2].latency_p99_s[2] * 1e9)
