from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from numpy.typing import NDArray

from mosel.offline.profiler import make_profile
from mosel.offline.settings import Settings
from mosel.runtime.runner import Runner
from tests.offline.stand_ins import ScriptedRunner, model, scripted


class Replaying(ScriptedRunner):
    """A runner on a device that replays the mode `ear`."""

    replays = True
    done: list[tuple[str, tuple[str, ...], int]]

    def settle(
        self, modalities: tuple[str, ...], _precision: str, inputs: Mapping[str, Sequence[NDArray[Any]]]
    ) -> bool:
        """Note it."""
        self.done.append(("settle", modalities, sum(map(len, next(iter(inputs.values()))))))
        return modalities == ("ear",)

    def run(
        self,
        modalities: tuple[str, ...],
        precision: str,
        inputs: Mapping[str, Sequence[NDArray[Any]]],
        **features: Any,
    ) -> Any:
        """Note it and run."""
        self.done.append(("run", modalities, sum(map(len, next(iter(inputs.values()))))))
        return super().run(modalities, precision, inputs, **features)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...], int]]:
    """Return what was run and settled, in order, by profiles that are made after this."""
    Replaying.done = []
    monkeypatch.setattr(
        "mosel.offline.timing.Runner",
        lambda *given: Replaying(Runner(*given), lambda _, size: size / 1000, []),
    )
    return Replaying.done


def test_each_cell_settles_once_its_memory_is_known(done: list[tuple[str, tuple[str, ...], int]]) -> None:
    """Batches are launched first, ascending, and settled then, the largest first, before they are timed."""
    make_profile(model(), Settings(batch=3, repeats=1, exhaustive=True))
    ear = [(what, size) for what, modalities, size in done if modalities == ("ear",)]
    assert ear[:7] == [
        ("run", 1),
        ("run", 1),
        ("run", 2),
        ("run", 3),
        ("settle", 3),
        ("settle", 2),
        ("settle", 1),
    ]
    assert all(what == "run" for what, _ in ear[7:])


@pytest.mark.usefixtures("done")
def test_a_profile_says_which_cells_are_replayed() -> None:
    """By mode the batch sizes; where nothing is, it says nothing."""
    extra = make_profile(model(), Settings(batch=3, repeats=1, exhaustive=True)).extra or {}
    assert extra["replayed"] == {"ear@float32": [1, 2, 3]}
    with scripted(lambda _, size: size / 1000):
        assert "replayed" not in (make_profile(model(), Settings(batch=2)).extra or {})
