import numpy as np
import pytest

from mosel.core.errors import ModelError
from mosel.models import synthetic as module
from mosel.models.base import Model, classification_score
from mosel.models.synthetic import Behaviour, brittle, linear, noop, synthetic, toy


def accuracy(model: Model, chosen: tuple[str, ...]) -> float:
    """Return the accuracy of a mode on the model's own samples, in batches of `max_batch`."""
    assert model.samples is not None
    held_out = model.samples()
    function = model.load("cpu", "float32")
    parts = [
        function(**{name: held_out.inputs[name][name][start : start + model.max_batch] for name in chosen})
        for start in range(0, len(held_out), model.max_batch)
    ]
    return float(classification_score({"scores": np.concatenate(parts)}, held_out.labels).mean())


@pytest.mark.parametrize("mode", ["a", "b", "a+b"])
def test_the_chosen_accuracy_is_measured(mode: str) -> None:
    """On the model's samples each mode is right as often as it was asked to be."""
    chosen = {"a": 0.6, "b": 0.751, "a+b": 1.0}
    model = synthetic("m", {name: linear(0, 0, share) for name, share in chosen.items()})
    assert accuracy(model, tuple(mode.split("+"))) == pytest.approx(chosen[mode], abs=1 / 1000)


@pytest.mark.parametrize("spin", [False, True])
def test_a_batch_waits_as_long_as_its_mode_and_size_say(spin: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends at the time the latency table gives for that batch size, sleeping or spinning."""
    now_s = 100.0

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            nonlocal now_s
            now_s += 0.001 if spin else 0.0
            return now_s

        @staticmethod
        def sleep(seconds: float) -> None:
            nonlocal now_s
            assert not spin
            now_s += seconds

    monkeypatch.setattr(module, "time", Clock)
    model = synthetic("m", {"a": Behaviour((0.5, 0.75), 1.0)}, spin=spin)
    function = model.load("cpu", "float32")
    function(a=np.zeros((2, 2), np.float32))
    assert now_s == pytest.approx(100.75, abs=0.003)
    assert model.max_batch == 2


def test_only_the_chosen_modes_are_allowed() -> None:
    """A combination that has no behaviour is no mode of the model."""
    model = synthetic("m", {"a": linear(0, 0, 0.5), "a+b": linear(0, 0, 0.9)})
    assert model.combinations() == (("a",), ("a", "b"))


@pytest.mark.parametrize(
    ("modes", "message"),
    [
        ({}, "no modes"),
        ({"a": Behaviour((), 0.5)}, "at least one"),
        ({"a": linear(0, 0, 0.5), "b": linear(0, 0, 0.5, max_batch=2)}, "as many for every mode"),
        ({"a": linear(0, 0, 1.5)}, "accuracy 1.5; expected 0 to 1"),
        ({"a": linear(-1, 0, 0.5)}, "expected seconds ≥ 0"),
    ],
)
def test_what_cannot_be_chosen_is_refused(modes: dict[str, Behaviour], message: str) -> None:
    """The model is named, and what was expected."""
    with pytest.raises(ModelError) as raised:
        synthetic("m", modes)
    assert message in str(raised.value)


def test_noop_takes_one_value_up_to_its_limit() -> None:
    """One modality, variable length; padding beyond the second value changes nothing."""
    assert noop.modality("x").inputs[0].largest_shape == (4096,)
    function = noop.load("cpu", "float32")
    assert function(x=np.full((3, 1), 7, np.float32)).argmax(axis=1).tolist() == [7, 7, 7]
    assert function(x=np.full((1, 4096), 7, np.float32)).shape == (1, 10)


def test_any_number_is_answered() -> None:
    """NaN, infinities and huge values are labels like any other."""
    values = np.array([[np.nan], [np.inf], [-np.inf], [1e30]], np.float32)
    found = noop.load("cpu", "float32")(x=values)
    assert found.sum(axis=1).tolist() == [1.0] * 4


def test_toy_trades_latency_for_accuracy() -> None:
    """Its modes ascend in both, about 4 and 20 ms at batch 1 for audio and video."""
    function = toy.load("cpu", "float32")
    modes = [function.modes[chosen] for chosen in toy.combinations()]  # type: ignore[attr-defined]
    assert [mode.accuracy for mode in modes] == sorted({mode.accuracy for mode in modes})
    assert [mode.latency_s[0] for mode in modes] == pytest.approx([0.004, 0.020, 0.023])


def test_brittle_raises_below_zero() -> None:
    """Any negative input of a batch fails the batch; without one it is answered."""
    function = brittle.load("cpu", "float32")
    assert function(x=np.zeros((2, 2), np.float32)).shape == (2, 10)
    with pytest.raises(ValueError, match="expected none below 0"):
        function(x=np.array([[1, 0], [1, -2]], np.float32))


def test_another_precision_is_refused() -> None:
    """A made-up model has one precision."""
    with pytest.raises(ModelError, match="expected float32"):
        toy.load("cpu", "float16")
