"""A worker that is a thread of this process, for embedding and tests; `channel.py` says what a channel is."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from mosel.core.types import Batch
from mosel.online.channel import Report, Work, WorkerState, finished
from mosel.online.events import BatchFailed, WorkerReady
from mosel.online.execution import Execution, one_line
from mosel.online.tasks import Result, Task
from mosel.online.wire import Start


class ThreadChannel:
    """A worker that is a thread of this process: the models run, but nothing shields the server from them.

    Args:
        report: where to report.
        start: what a worker process would be told: number, device, models and modes.
    """

    def __init__(self, report: Report, start: Start) -> None:
        self.state = WorkerState.STARTING
        self._report = report
        self._start = start
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"worker-{start.worker}")
        self._execution: Execution | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load and warm up the models.

        Raises:
            MoselError: a model cannot be found, loaded or run.
        """
        loop = asyncio.get_running_loop()
        self._execution = await loop.run_in_executor(self._thread, Execution, self._start)
        await loop.run_in_executor(self._thread, self._execution.warm_up)
        self.state = WorkerState.READY
        self._report(WorkerReady(self._start.worker))

    def send(self, work: Work) -> None:
        """Run the batch in the thread, after those before it."""
        assert self._execution is not None, "batches are sent only after `WorkerReady`"
        batch = work.batch
        what = batch.model, work.modalities, work.precision, work.tensors, batch.judged
        task = Task(*what, *work.kept)
        prepared = self._execution.prepare(task)
        loop = asyncio.get_running_loop()
        ran = loop.run_in_executor(self._thread, self._execution.run, prepared)
        answer = loop.create_task(self._answer(batch, ran))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    def forget(self, job: str) -> None:
        """Let go of what is kept of a job."""
        if self._execution is not None:
            self._execution.forget(job)

    async def close(self) -> None:
        """Wait for what is running and end the thread."""
        for answer in self._answers:
            answer.cancel()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        if self._execution is not None:
            self._execution.close()

    async def _answer(self, batch: Batch, ran: asyncio.Future[Result]) -> None:
        try:
            result = await ran
        except Exception as error:  # the edge of the thread: no process ends here, to be replaced by another
            self._report(BatchFailed(batch.id, one_line(error)))
            return
        if result.failure is not None:
            self._report(BatchFailed(batch.id, result.failure))
        else:
            told = result.undone, result.confidence, result.fits, result.kept, result.whole
            self._report(finished(batch, result.took_ns, *told), result.outputs)
