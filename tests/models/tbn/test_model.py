import numpy as np
import pytest

from mosel.core.errors import ModelError
from mosel.models.registry import find
from mosel.models.tbn import action_score, tbn
from mosel.runtime.padding import blank
from mosel.runtime.runner import Runner


def test_both_sizes_are_in_the_zoo() -> None:
    """`tbn` is the published size with 25 segments, `tbn-small` one that a CPU runs."""
    full, small = find("tbn"), find("tbn-small")
    assert full.modality("rgb").model_inputs[0].shape == (25, 3, 224, 224)
    assert full.modality("flow").model_inputs[0].shape == (25, 10, 224, 224)
    assert full.modality("audio").model_inputs[0].shape == (25, 256, 256)
    assert small.modality("rgb").model_inputs[0].shape == (3, 3, 96, 96)
    assert [t.shape for t in full.outputs] == [(97,), (300,)]


def test_options_follow_the_name() -> None:
    """How many segments, and which random weights."""
    found = find("tbn,segments=3,seed=7")
    assert found.modality("audio").inputs[0].shape == (3, 30_696)
    assert found.version == "random-7"
    assert not found.trained


@pytest.mark.parametrize(("size", "segments"), [("huge", None), ("small", 0)])
def test_what_is_no_size_is_refused(size: str, segments: int | None) -> None:
    """An unknown size, and no segment at all."""
    with pytest.raises(ModelError, match=r"expected (one of full, small|at least one)"):
        tbn(size, segments=segments)


def test_an_action_is_right_when_verb_and_noun_are() -> None:
    """One of them alone scores nothing."""
    outputs = {"verb": np.eye(3)[[0, 0, 1, 1]], "noun": np.eye(3)[[2, 1, 2, 1]]}
    labels = np.array([[0, 2]] * 4)
    assert action_score(outputs, labels).tolist() == [1, 0, 0, 0]


def test_a_runner_runs_every_mode() -> None:
    """Two requests in each combination of modalities, as the profiler and a worker run them."""
    model = find("tbn-small")
    runner = Runner(model, "cpu", ("float32",))
    for chosen in model.combinations():
        inputs = {name: [array] for name, array in blank(model, chosen, 2).items()}
        ran = runner.run(chosen, "float32", inputs)
        assert ran.outputs["verb"].shape == (2, 97)
        assert np.isfinite(ran.outputs["noun"]).all()


def test_gpus_offer_half_precision() -> None:
    """float16 on a GPU only; bfloat16 everywhere."""
    model = find("tbn")
    assert model.precisions_on("cpu") == ("float32", "bfloat16")
    assert "float16" in model.precisions_on("cuda")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_was_seen_stands_for_what_was_given(precision: str) -> None:
    """With what rgb and flow showed kept, only sound is looked at, and every score is the same."""
    small = find("tbn-small")
    runner = Runner(small, "cpu", (precision,))
    inputs = {name: [array] for name, array in blank(small, small.modality_names, 2).items()}
    kept = runner.run(("rgb", "flow"), precision, {name: inputs[name] for name in ("rgb", "flow")}, keep=True)
    assert {name: array.shape for name, array in kept.features.items()} == {
        "rgb_seen": (2, 3, 128),
        "flow_seen": (2, 3, 128),
    }
    left = {"audio": inputs["audio"], **{name: [array] for name, array in kept.features.items()}}
    resumed = runner.run(small.modality_names, precision, left, known=("rgb", "flow")).outputs
    whole = runner.run(small.modality_names, precision, inputs).outputs
    assert all((resumed[name] == whole[name]).all() for name in whole)
