"""That a call leaves nothing for the collector of cyclic garbage: it would hold its tensors until that runs."""

import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.frontend.calls import Call, Input
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.running import Outcome
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.answers import Live, Tell
from mosel.online.serving import ServedModel
from mosel.online.tensors import Declared, JobTensors


class Later(InstantEngine):
    """Keeps each job, as a real engine does, until it is told to answer."""

    def __init__(self, model: Model) -> None:
        super().__init__(zeros(model))
        self._model = model
        self._live: list[tuple[Live, Mapping[str, NDArray[Any]]]] = []

    def hand_in(self, job: Job, inputs: Mapping[str, NDArray[Any]], tell: Tell) -> Live:
        """Keep the job."""
        live = Live(job, JobTensors(job, Declared(self._model), inputs), tell)
        self._live.append((live, inputs))
        return live

    def withdraw(self, live: Live) -> None:
        """Keep a job no longer."""
        self._live = [kept for kept in self._live if kept[0] is not live]

    def answer(self) -> None:
        """Answer all."""
        waiting, self._live = self._live, []
        for live, inputs in waiting:
            super().hand_in(live.job, inputs, live.tell)


@pytest.mark.usefixtures("collected_by_hand")
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_call_that_has_its_end_is_freed_at_once(model: Model, profile: Profile, cancelled: bool) -> None:
    """Whether it was answered or cancelled, no cycle of references keeps it, or its tensors."""
    engine = Later(model)
    service = Service(engine, [ServedModel("m", model, profile)])
    told: list[bool] = []
    for number in range(3):
        call = Call((Input("wave", "FP32", np.zeros((1, 2, 3), np.float32)),), id=f"c{number}")
        running = service.start("m", call, engine.now_ns(), lambda what: told.append(isinstance(what, Outcome)))
        if cancelled:
            running.cancel()
        engine.answer()
        del running, call
        if not number:
            gc.collect()  # what is made once, for the first call
    assert told == [not cancelled] * 3
    assert gc.collect() == 0
