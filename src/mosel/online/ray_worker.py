"""What an actor of a Ray cluster does with batches: what a worker process does (`worker.py`), over Ray's wire.

One thread has the device, as in a worker process; calls come in the order in which they were made, so batches
run in the order in which they were sent. While one is on the device, the next one's modalities are prepared.
It is the class that Ray makes an actor of; nothing here imports Ray.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from mosel.core.errors import UsageError
from mosel.online import wire
from mosel.online.execution import Execution, one_line
from mosel.online.tasks import Result, Task
from mosel.runtime.device import pin

log = logging.getLogger(__name__)


class RayWorker:
    """The models of one worker, on the device that Ray gave it.

    Args:
        start: which models and modes, on which device; no cores means that it is not pinned to any.
    """

    def __init__(self, start: wire.Start) -> None:
        self._start = start
        self._device = ThreadPoolExecutor(
            1, thread_name_prefix="device", initializer=_pin, initargs=(start.cores,)
        )
        self._execution: Execution | None = None

    def pid(self) -> int:
        """Return the id of the actor's process, on whatever node it runs."""
        return os.getpid()

    async def warm_up(self) -> wire.StartFailed | None:
        """Load the models and run each mode; return why that cannot be done, if so."""
        return await asyncio.get_running_loop().run_in_executor(self._device, self._load)

    async def run(
        self,
        model: str,
        modalities: tuple[str, ...],
        precision: str,
        tensors: Mapping[str, Sequence[NDArray[Any]]],
        judged: bool = False,
    ) -> Result:
        """Prepare and run a batch, after those that were sent before it."""
        assert self._execution is not None, "batches are sent only after it is warm"
        prepared = self._execution.prepare(Task(model, modalities, precision, tensors, judged))
        return await asyncio.get_running_loop().run_in_executor(self._device, self._execution.run, prepared)

    async def live(self) -> None:
        """Never return: who waits for this hears of the actor's end."""
        await asyncio.Event().wait()

    def _load(self) -> wire.StartFailed | None:
        try:
            execution = Execution(self._start)
            execution.warm_up()
        except Exception as error:  # the edge to models that are not ours: the engine is told why
            log.exception("worker %d cannot start", self._start.worker)
            return wire.StartFailed(one_line(error), final=isinstance(error, UsageError))
        self._execution = execution
        return None


def _pin(cores: Sequence[int]) -> None:
    if cores:
        pin(cores)
