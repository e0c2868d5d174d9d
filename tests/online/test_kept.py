"""What a worker keeps between the stages of a cascade, and what it runs then."""

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mosel.models.base import Modality, Model, Tensor
from mosel.online.execution import Execution
from mosel.online.kept import Holders, KeptFeatures
from mosel.online.tasks import Result, Task
from mosel.online.wire import ServedMode, Start, WorkerModel

NAMES = ("text", "audio")
ROW = np.zeros((1, 2), np.float32)


def add(**given: Any) -> Any:
    """The sum of what is given, each doubled once it is encoded; a feature is taken as it is."""
    seen = {
        f"{name.removesuffix('_seen')}_seen": values * (1 if "seen" in name else 2)
        for name, values in given.items()
    }
    ENCODED.append(sorted(name for name in given if "seen" not in name))
    return {"scores": np.sum(list(seen.values()), axis=0), **seen}


ENCODED: list[list[str]] = []
MODEL = Model(
    name="m",
    modalities=tuple(
        Modality(name, (Tensor(name, "FP32", (1,)),), features=(Tensor(f"{name}_seen", "FP32", (1,)),))
        for name in NAMES
    ),
    outputs=(Tensor("scores", "FP32", (1,)),),
    load=lambda _device, _precision: add,
    confidence=lambda outputs: outputs["scores"][:, 0],
    framework="numpy",
)


PREPARING = replace(MODEL, modalities=tuple(replace(each, preprocess=dict) for each in MODEL.modalities))


@pytest.fixture(params=[MODEL, PREPARING], ids=["as given", "prepared"])
def execution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Execution:
    """A worker's models, with nothing encoded yet; tensors are taken as they come, or are prepared by part."""
    module = ModuleType("kept_under_test")
    module.model = request.param  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kept_under_test", module)
    modes = tuple(ServedMode(names, "float32", (1, 2)) for names in (("text",), NAMES))
    made = Execution(Start(0, "cpu", 1, (), (), (WorkerModel("kept_under_test:model", "m", modes),)))
    ENCODED.clear()
    return made


def first(execution: Execution, *values: float) -> Result:
    """Run requests of job `a` in the first stage; what is below 3 is unsure."""
    tensors = {"text": [np.array([[value] for value in values], np.float32)]}
    parts = [("a", range(len(values)))]
    return execution.run(execution.prepare(Task("m", ("text",), "float32", tensors, True, 3.0, parts=parts)))


def last(execution: Execution, *requests: int) -> Result:
    """Run some of them, which were all 1, in the last stage, beside audio of 10."""
    rows = np.ones((len(requests), 1), np.float32)
    tensors = {"text": [rows], "audio": [10 * rows]}
    resumes = (True,) * len(requests)
    task = Task("m", NAMES, "float32", tensors, first=("text",), resumes=resumes, parts=[("a", requests)])
    return execution.run(execution.prepare(task))


def answers(result: Result) -> list[float]:
    """What it answered."""
    assert result.outputs is not None
    return [float(value) for value in result.outputs["scores"][:, 0]]


def test_what_was_encoded_is_not_encoded_again(execution: Execution) -> None:
    """The last stage takes what the first one made of the text, and answers as if it had not."""
    assert first(execution, 1, 2, 1).kept == (True, False, True)
    found = last(execution, 0, 2)
    assert ENCODED == [["text"], ["audio"]]
    assert not found.whole
    assert answers(found) == [22, 22]


def test_a_stage_whose_features_are_gone_runs_whole(execution: Execution) -> None:
    """Forgotten, or used before: the answer is the same, and the result says so."""
    first(execution, 1, 1)
    execution.forget("a")
    found = last(execution, 0, 1)
    assert ENCODED == [["text"], ["audio", "text"]]
    assert found.whole
    assert answers(found) == [22, 22]


def test_what_nothing_is_kept_of_runs_the_first_stage_before(execution: Execution) -> None:
    """One that is new beside one that is resumed: of the former the text is encoded, of both the sound."""
    first(execution, 1, 1)
    parts = [("a", [1]), ("b", [0])]
    rows = {"text": np.array([[1.0], [5.0]], np.float32), "audio": np.full((2, 1), 10, np.float32)}
    split = execution.preprocesses()
    tensors = {name: np.split(given, 2) if split else [given] for name, given in rows.items()}
    task = Task("m", NAMES, "float32", tensors, first=("text",), resumes=(True, False), parts=parts)
    found = execution.run(execution.prepare(task))
    assert ENCODED == [["text"], ["text"], ["audio"]]
    assert answers(found) == [22, 30]
    assert not found.whole


def test_features_are_kept_within_their_bytes_and_their_time() -> None:
    """What does not fit is not kept; what is old is let go, and makes room."""
    now_ns = [0]
    kept = KeptFeatures(limit_bytes=20, limit_s=1, now_ns=lambda: now_ns[0])
    assert kept.keep("a", 0, {"x": ROW})
    assert kept.keep("b", 1, {"x": ROW})
    assert not kept.keep("c", 0, {"x": ROW})
    assert kept.nbytes == 16
    assert kept.take("b", 1) == {"x": ROW}
    assert kept.take("b", 1) is None
    now_ns[0] = 2_000_000_000
    assert kept.take("a", 0) is None
    assert kept.nbytes == 0


def test_a_job_that_is_over_is_forgotten_once_by_each_worker_that_kept_of_it() -> None:
    """Also if it was over before the worker said that it keeps something."""
    told: list[tuple[int, str]] = []
    holders = Holders(lambda worker, job: told.append((worker, job)))
    holders.note({("a", 0), ("a", 1), ("b", 0)}, 0, {"a"})
    assert told == [(0, "b")]
    holders.note({("a", 2)}, 1, {"a"})
    holders.over("a")
    holders.over("a")
    assert sorted(told[1:]) == [(0, "a"), (1, "a")]
