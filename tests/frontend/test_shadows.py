import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from mosel.core.errors import RefusedError, UsageError
from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Job, Receipt
from mosel.frontend.agreement import LiveAgreement
from mosel.frontend.cascade_shadows import CascadeAgreement
from mosel.frontend.shadows import LARGEST_BYTES, Shadows
from mosel.models.base import Model
from mosel.online import virtual
from mosel.online.decisions import Decisions
from mosel.online.engine import Answer, Snapshot
from mosel.online.serving import ServedModel

Arrays = Mapping[str, NDArray[Any]]
BEST = ("text+sound", 1)
SCORES = np.array([[0.1, 0.9, 0], [0.9, 0.1, 0]], np.float32)
IDLE_S = 0.1
"""Ten times what a request takes in the best mode."""


@dataclass
class Engine:
    """Answers every job with class 1 at once, in `mode`; counts as the real one."""

    queued: int = 0
    batches: int = 0
    mode: tuple[str, int] = BEST
    refuses: bool = False
    jobs: list[tuple[int, Job, Arrays]] = field(default_factory=list)

    @property
    def given(self) -> tuple[Any, Any, Any]:
        """What shadows need of it."""
        return self.submit, self.snapshot, self.now_ns

    def snapshot(self) -> Snapshot:
        """Return its counters."""
        return Snapshot(self.queued, self.batches, 0, 0, (), Decisions())

    def now_ns(self) -> int:
        """Return the virtual time."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual.VirtualLoop)
        return loop.now_ns()

    async def submit(self, job: Job, inputs: Arrays) -> Answer:
        """Answer a job."""
        self.jobs.append((self.now_ns(), job, inputs))
        if self.refuses:
            raise RefusedError("not now")
        self.batches += 1
        receipt = structs.replace(receipt_of(job, self.mode[0]), modes=(self.mode,))
        return Answer(receipt, {"scores": SCORES[:1], "label": np.ones(1, np.int64)})


def receipt_of(job: Job, mode: str) -> Receipt:
    """Return the receipt of a job that was served in one mode."""
    return Receipt(job, State.SERVED, Reason.ON_TIME, "", 1, 1, 0.8, ((mode, job.requests),))


JOB = Job("j", "m", 2, 0.5, 0, 10)
INPUTS: Arrays = {"wave": np.arange(4, dtype=np.float32).reshape(2, 2)}
OUTPUTS: Arrays = {"scores": SCORES, "label": np.zeros(2, np.int64)}


def run(
    model: Model, profile: Profile, act: Callable[[Shadows, Engine], Awaitable[None]]
) -> tuple[Engine, Any]:
    """Let `act` use shadows of every job for ten virtual seconds; return the engine and the agreement."""
    engine, agreement = Engine(), LiveAgreement([profile])

    async def main() -> None:
        served = [ServedModel("m", model, profile)]
        shadows = Shadows(served, 1.0, *engine.given, agreement, CascadeAgreement([profile]))
        await act(shadows, engine)
        await asyncio.sleep(10)

    virtual.run(main())
    return engine, agreement


def saw(shadows: Shadows, mode: str = "sound", job: Job = JOB, **changes: Any) -> None:
    """Tell of a job that ran in a mode."""
    shadows.saw(structs.replace(receipt_of(job, mode), **changes), INPUTS, OUTPUTS)


def test_one_request_of_an_answered_job_is_compared_once_the_server_is_idle(
    model: Model, profile: Profile
) -> None:
    """It asks for the best mode; two in a row agree in one of their two requests."""

    async def act(shadows: Shadows, engine: Engine) -> None:
        engine.queued = 1
        saw(shadows)
        await asyncio.sleep(5)
        assert not engine.jobs
        engine.queued = 0
        await asyncio.sleep(1)
        saw(shadows)

    engine, agreement = run(model, profile, act)
    (first_ns, first, inputs), (_, _, others) = engine.jobs
    assert 5e9 < first_ns <= 5e9 + 2 * IDLE_S * 1e9
    assert (first.requests, first.accuracy_slo, first.modalities) == (1, 0.9, ())
    assert inputs["wave"].shape == others["wave"].shape == (1, 2)
    entry = agreement.entry("m", "sound")
    assert (entry["mean"], entry["shadows"]) in ((0.5, 2), (1.0, 2), (0.0, 2))


def test_batches_between_two_looks_put_a_shadow_run_off(model: Model, profile: Profile) -> None:
    """Work that is done before each look, however short, means that the server is not idle."""

    async def act(shadows: Shadows, engine: Engine) -> None:
        saw(shadows)
        for _ in range(100):
            await asyncio.sleep(IDLE_S / 2)
            engine.batches += 1
        assert not engine.jobs

    engine, _ = run(model, profile, act)
    assert len(engine.jobs) == 1


def test_what_is_not_compared(model: Model, profile: Profile) -> None:
    """Jobs in the best mode, in several, in a cascade, without all modalities or an answer, and large ones."""

    async def act(shadows: Shadows, _: Engine) -> None:
        saw(shadows, "text+sound")
        saw(shadows, modes=(("text", 1), ("sound", 1)))
        saw(shadows, cascaded=1)
        saw(shadows, job=structs.replace(JOB, modalities=("sound",)))
        shadows.saw(receipt_of(JOB, "sound"), INPUTS, None)
        large = {"wave": np.zeros((1, LARGEST_BYTES + 1), np.uint8)}
        shadows.saw(receipt_of(structs.replace(JOB, requests=1), "sound"), large, OUTPUTS)

    engine, _ = run(model, profile, act)
    assert not engine.jobs


def test_what_comes_to_nothing_teaches_nothing(model: Model, profile: Profile) -> None:
    """A run that is refused, or that ran in another mode; the next one is tried all the same."""

    async def act(shadows: Shadows, engine: Engine) -> None:
        engine.refuses = True
        saw(shadows)
        await asyncio.sleep(1)
        engine.refuses, engine.mode = False, ("sound", 1)
        saw(shadows)
        await asyncio.sleep(1)
        saw(shadows, "text")

    engine, agreement = run(model, profile, act)
    assert len(engine.jobs) == 3
    assert agreement.entry("m", "sound") is None


def test_of_a_share_every_so_many(model: Model, profile: Profile) -> None:
    """A quarter of the jobs is kept."""
    engine = Engine()

    async def main() -> None:
        served = [ServedModel("m", model, profile)]
        found = LiveAgreement([profile])
        shadows = Shadows(served, 0.25, *engine.given, found, CascadeAgreement([profile]))
        for _ in range(20):
            saw(shadows)
            await asyncio.sleep(1)

    virtual.run(main())
    assert len(engine.jobs) == 5


def test_answers_that_cannot_be_compared_are_a_mistake(model: Model, profile: Profile) -> None:
    """It is told before the server starts."""
    mute = replace(model, score=lambda _outputs, labels: np.ones(len(labels)))
    with pytest.raises(UsageError, match="nothing says how far two answers of m agree"):
        run(mute, profile, lambda *_: asyncio.sleep(0))
