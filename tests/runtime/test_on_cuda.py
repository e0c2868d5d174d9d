from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mosel import Modality, Model, Tensor
from mosel.core.errors import OutOfMemoryError
from mosel.models.registry import find
from mosel.offline.profiler import make_profile
from mosel.offline.samples import choose, prepared
from mosel.offline.settings import Settings
from mosel.runtime.on_cuda import CudaBackend, Rooms
from mosel.runtime.runner import Runner

PIECES = Tensor("pieces", "INT64", (-1,), limits=(6,), pad=9)
PIXELS = Tensor("pixels", "FP32", (4,))

gpu = pytest.mark.gpu
here = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def given(requests: int, length: int) -> dict[str, torch.Tensor]:
    """A batch of ones."""
    return {"pieces": torch.ones(requests, length, dtype=torch.int64), "pixels": torch.ones(requests, 4)}


def test_a_batch_is_laid_into_its_room_filled_up() -> None:
    """What lies behind shorter requests is the tensor's own filler, whatever was there before."""
    room = Rooms().of((PIECES, PIXELS), given(2, 3))
    room.lay(given(2, 6))
    room.lay(given(2, 2))
    assert room.tensors["pieces"].tolist() == [[1, 1, 9, 9, 9, 9]] * 2
    assert room.tensors["pixels"].tolist() == [[1] * 4] * 2


def test_rooms_of_smaller_batches_lie_in_that_of_the_largest() -> None:
    """So recordings of many batch sizes hold the inputs of one."""
    rooms = Rooms()
    large, small = (rooms.of((PIECES, PIXELS), given(n, 3)).tensors["pieces"] for n in (4, 2))
    assert small.data_ptr() == large.data_ptr()
    larger = rooms.of((PIECES, PIXELS), given(5, 3)).tensors["pieces"]
    assert larger.data_ptr() != large.data_ptr()
    assert rooms.of((PIECES, PIXELS), given(4, 3)).tensors["pieces"].data_ptr() == larger.data_ptr()


def test_filling_counts_all_that_is_computed() -> None:
    """Two requests of three pieces and four pixels fill 14 of 20 places."""
    assert Rooms().of((PIECES, PIXELS), given(2, 3)).filling(given(2, 3)) == pytest.approx(20 / 14)


def test_lengths_are_laid_in_beside_their_tensor() -> None:
    """They have one place a request, and are not filled up."""
    batch = {**given(2, 3), "pieces_lengths": torch.tensor([3, 2])}
    room = Rooms().of((PIECES, PIXELS), batch)
    room.lay(batch)
    assert room.tensors["pieces_lengths"].tolist() == [3, 2]


def test_bytes_cannot_be_recorded() -> None:
    """They stay on the host."""
    with pytest.raises(ValueError, match="words is of BYTES"):
        Rooms().of((Tensor("words", "BYTES", (1,)),), {"words": np.array([[b"a"]], object)})


class Scaled(nn.Module):
    """A model of one tensor of variable length; what fills it up counts as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(40)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return (batch, 8)."""
        found: torch.Tensor = self.layers(values.sum(dim=1))
        return found


def scaled(**changed: Any) -> Model:
    """Return that model."""
    torch.manual_seed(0)
    network = Scaled()
    stated: dict[str, Any] = {
        "name": "scaled",
        "modalities": (Modality("values", (Tensor("values", "FP32", (-1, 8), limits=(64,)),)),),
        "outputs": (Tensor("sum", "FP32", (8,)),),
        "load": lambda device, _: network.to(device),
        "replayable": True,
    }
    return Model(**{**stated, **changed})


def values(requests: int, length: int = 64, seed: int = 0) -> dict[str, list[NDArray[Any]]]:
    """Return one part of noise."""
    return {"values": [np.random.default_rng(seed).normal(size=(requests, length, 8)).astype(np.float32)]}


def outputs(runner: Runner, inputs: Mapping[str, Any], staged: Any = None) -> NDArray[Any]:
    """Return what the model gives."""
    return runner.run(("values",), "float32", inputs, staged).outputs["sum"]


@gpu
@here
def test_a_gpu_answers_as_a_cpu_does_launched_and_replayed() -> None:
    """At the recorded length, at half of it, and at one that is not worth filling up."""
    cpu, device = (Runner(scaled(), name, ("float32",)) for name in ("cpu", "cuda"))
    lengths = (64, 40, 5)
    expected = [outputs(cpu, values(3, n)) for n in lengths]
    launched = [outputs(device, values(3, n)) for n in lengths]
    assert device.settle(("values",), "float32", values(3))
    replayed = [outputs(device, values(3, n)) for n in lengths]
    for found in (launched, replayed):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


@gpu
@here
def test_batches_that_are_copied_ahead_keep_apart() -> None:
    """Each of several batches, all on their way before the first runs, gives its own answer."""
    runner = Runner(scaled(), "cuda", ("float32",))
    batches = [values(4, seed=seed) for seed in range(5)]
    expected = [outputs(runner, batch) for batch in batches]
    staged = [runner.stage(("values",), batch) for batch in batches]
    assert all(each is not None for each in staged)
    for batch, ahead, known in zip(batches, staged, expected, strict=True):
        np.testing.assert_allclose(outputs(runner, batch, ahead), known, atol=1e-4)


@gpu
@here
def test_a_model_that_looks_at_values_is_launched(caplog: pytest.LogCaptureFixture) -> None:
    """Recording it fails, which harms nothing that comes after."""

    def function(values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=1) * (1 if float(values.max()) > 0 else -1)

    runner = Runner(scaled(load=lambda _device, _precision: function), "cuda", ("float32",))
    assert not runner.settle(("values",), "float32", values(2))
    assert "cannot be recorded" in caplog.text
    np.testing.assert_allclose(outputs(runner, values(2)), values(2)["values"][0].sum(axis=1), atol=1e-3)


@gpu
@here
def test_a_batch_beyond_the_memory_is_told_and_the_next_one_runs() -> None:
    """As one that asks for more than any device has."""

    def function(values: torch.Tensor) -> torch.Tensor:
        if len(values) > 1:
            torch.empty(1 << 50, dtype=torch.uint8, device=values.device)
        return values.sum(dim=1)

    runner = Runner(scaled(load=lambda _device, _precision: function), "cuda", ("float32",))
    with pytest.raises(OutOfMemoryError):
        outputs(runner, values(2))
    assert outputs(runner, values(1)).shape == (1, 8)


@gpu
@here
@pytest.mark.parametrize("name", ["tvlt-small", "vilt-small", "selfmm-small", "tbn-small", "avhubert-small"])
def test_the_zoo_answers_on_a_gpu_as_on_a_cpu(name: str) -> None:
    """Each mode of each small model, launched and replayed; what it hears and sees are test samples."""
    model = find(name)
    cpu, device = (Runner(model, each, ("float32",)) for each in ("cpu", "cuda"))
    assert model.samples is not None
    samples = model.samples()
    chosen = [int(index) for index in choose(samples, 4, 0)]
    parts = {m: prepared(model, samples, m, chosen) for m in model.modality_names}
    for mode in model.combinations():
        inputs = {tensor: arrays for m in mode for tensor, arrays in parts[m].items()}
        expected = cpu.run(mode, "float32", inputs).outputs
        device.settle(mode, "float32", inputs)
        found = device.run(mode, "float32", inputs).outputs
        for tensor in model.outputs:
            if tensor.datatype == "FP32":
                scale = float(np.abs(expected[tensor.name]).max())
                np.testing.assert_allclose(found[tensor.name], expected[tensor.name], atol=0.02 * scale)


@gpu
@here
def test_a_profile_of_a_gpu_has_memory_and_says_what_is_replayed() -> None:
    """Memory grows with the batch; what is replayed stands in `extra`."""
    settings = Settings("cuda", batch=4, repeats=2, samples=20)
    profile = make_profile(find("vilt-small"), settings)
    assert profile.device.kind == "cuda"
    for mode in profile.modes:
        assert 0 < mode.memory_bytes[0] <= mode.memory_bytes[-1]
    assert (profile.extra or {}).get("replayed")


@gpu
@here
def test_copies_run_on_a_stream_of_their_own() -> None:
    """While the device computes, the next batch's copies end."""
    backend = CudaBackend("cuda")
    one = torch.ones(4096, 4096, device="cuda")
    tensors = [Tensor("values", "FP32", (-1, 8), limits=(64,))]
    torch.cuda.synchronize()
    for _ in range(200):
        one = one @ one * 1e-4
    busy = torch.cuda.Event()  # type: ignore[no-untyped-call]
    busy.record()
    staged = backend.stage(tensors, values(64))
    staged.arrived.synchronize()
    assert not busy.query()  # type: ignore[no-untyped-call]
