"""The live driver of the scheduler: it carries events in, actions out, and tensors past it. It decides nothing.

Rules:
1. What happens is told to the scheduler as `turns.py` says.
2. Every job that was handed in gets its one answer: the scheduler's receipt, or an `ExecutionError` if the
   engine itself broke. A scheduler that raises, or the loss of the last worker for good, breaks the engine at
   once and aloud (`until_broken`); nothing is left waiting.
3. Everything here runs on the event loop, and nothing in it waits for a worker or for a long decision.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns, to_s
from mosel.core.errors import ExecutionError, InputError, MoselError, RefusedError, UnknownModelError
from mosel.core.types import Batch, Job, Receipt
from mosel.online import serving
from mosel.online.answers import Answer, Confidences, Live, Snapshot, Tell, nobody
from mosel.online.autoscaling import Ask, ask_nobody
from mosel.online.backlog import Backlog
from mosel.online.channel import ChannelFactory, GivenUp, News, Outputs
from mosel.online.decisions import DecisionTimes
from mosel.online.drift import Drift
from mosel.online.events import (
    Action,
    Arrived,
    BatchFailed,
    Cancelled,
    Complete,
    Dispatch,
    Entry,
    Event,
    Finished,
    Reload,
    Retired,
    Scheduling,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
)
from mosel.online.kept import Holders
from mosel.online.serving import EngineConfig, ServedModel
from mosel.online.tensors import Declared, JobTensors
from mosel.online.turns import LONG_NS, Turns
from mosel.solve.warm_up import warm_up

__all__ = ["Answer", "Confidences", "Engine", "Snapshot"]

log = logging.getLogger(__name__)


class Engine:
    """Serves jobs: makes workers, drives the scheduler, answers.

    Making one compiles what decisions call, where that has not been done on this machine before, so that no job
    waits for it.

    Args:
        models: what is served.
        config: how.
        scheduler: what decides; by default a `Scheduler`, or a `Fleet`, as `config` says.
        channels: makes the workers' channels; by default worker processes as `config` says.
        now_ns: the clock, which has to run as the event loop's does.
        journal: if given, every call of the scheduler is appended to it.
        long_ns: decisions that have lately taken longer are made beside the event loop.
        ask: where workers come and go, is told how many there should be room for.
        holdings: what `channels` makes workers with; what moves is put there.

    Attributes:
        staff: the workers.

    Raises:
        UsageError: a model's profile is of another model, or the policy is unknown.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        config: EngineConfig | None = None,
        *,
        scheduler: Scheduling | None = None,
        channels: ChannelFactory | None = None,
        now_ns: Callable[[], int] = monotonic_ns,
        journal: list[Entry] | None = None,
        long_ns: int = LONG_NS,
        ask: Ask = ask_nobody,
        holdings: serving.Holdings | None = None,
    ) -> None:
        config = config or EngineConfig()
        warm_up()
        self.now_ns = now_ns
        self._models = {served.model.name: Declared(served.model) for served in models}
        self._modes = {served.model.name: serving.served_modes(served) for served in models}
        scheduler = scheduler or serving.scheduler_of(models, config)
        self._watchers: list[Callable[[Batch, int], None]] = []
        self._judge_watchers: list[Callable[[Batch, Confidences], None]] = []
        self._decision_watchers: list[Callable[[Entry, int], None]] = []
        self._turns = Turns(scheduler, lambda: self.now_ns(), self._carry_out, self._scheduler_failed, long_ns)
        self.staff = serving.staff_of(models, config, channels, holdings, self._report, self._tell)
        self._autoscaling = serving.autoscaling_of(models, config, self.staff, lambda: self.now_ns(), ask)
        self._decision_watchers += [self._autoscaling.decided] if self._autoscaling else []
        self._journal = journal
        self._live: dict[str, Live] = {}
        self._drift = Drift([served.profile for served in models])
        self._backlog = Backlog([served.profile for served in models], config.workers, config.queue_s)
        self._sent: dict[int, tuple[Batch, list[Live]]] = {}
        self._holders = Holders(self.staff.forget)
        self._unheard: Counter[int] = Counter()
        self._wake: asyncio.TimerHandle | None = None
        self._wakes_ns = self._due_ns = 0
        self._taking, self._why_not = False, "it is starting"
        self._idle, self._broken = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._failure: ExecutionError | None = None
        self._decisions = DecisionTimes()
        self._batches = self._failed_batches = self._split_batches = self._lost_workers = 0

    @property
    def ready(self) -> bool:
        """Whether jobs are taken."""
        return self._taking

    async def start(self) -> None:
        """Start the workers; return when each is warm or given up.

        Raises:
            ExecutionError: not one could be started; the message carries the last error.
        """
        failures = await self.staff.start()
        if failures and (self.staff.given_up or any(not isinstance(f, MoselError) for f in failures)):
            await self.stop()
            raise next((f for f in failures if not isinstance(f, MoselError)), failures[0])
        self._taking = True
        if self._autoscaling:
            self._autoscaling.begin()

    async def submit(self, job: Job, inputs: Mapping[str, NDArray[Any]]) -> Answer:
        """Serve a job. Cancelling the task that awaits this cancels the job.

        Raises:
            As `hand_in`; ExecutionError: the engine broke, or the outputs of its batches do not fit together.
        """
        return await self.post(job, inputs)

    def post(self, job: Job, inputs: Mapping[str, NDArray[Any]]) -> "asyncio.Future[Answer]":
        """Hand a job in; the future will hold its answer, and cancelling it cancels the job."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def tell(answer: Answer | MoselError) -> None:
            if future.done():
                return  # cancelled
            if isinstance(answer, Answer):
                future.set_result(answer)
            else:
                future.set_exception(answer)

        live = self.hand_in(job, inputs, tell)
        future.add_done_callback(lambda done: self.withdraw(live) if done.cancelled() else None)
        return future

    def hand_in(self, job: Job, inputs: Mapping[str, NDArray[Any]], tell: Tell) -> Live:
        """Take a job and call `tell` with its answer, unless it is withdrawn before.

        Args:
            job: with an id that no other live job has.
            inputs: by tensor name, each (requests, *shape), as they arrived. They are not copied and must not
                change until the job has its answer.
            tell: is told.

        Raises:
            RefusedError: the engine is starting, draining or stopped, or has too much work before it.
            UnknownModelError: it does not serve this model.
            InputError: the id is taken, or a tensor is missing or does not fit.
            ExecutionError: the engine is broken.
        """
        if self._failure is not None:
            raise ExecutionError(str(self._failure))
        if not self._taking:
            raise RefusedError(f"the server takes no jobs: {self._why_not}; try again later")
        model = self._models.get(job.model)
        if model is None:
            raise UnknownModelError(f"model {job.model!r} is not served; expected {', '.join(self._models)}")
        if job.id in self._live:
            raise InputError(f"job {job.id!r} is being served already; give each job an id of its own")
        tensors = JobTensors(job, model, inputs)
        self._backlog.workers = self.staff.size
        self._backlog.add(job)
        live = self._live[job.id] = Live(job, tensors, tell)
        if len(self._live) == 1:
            self._idle.clear()
        self._turns.tell(Arrived(job))
        return live

    def withdraw(self, live: Live) -> None:
        """Cancel a job if it has no answer yet; nobody is told of one any more."""
        live.tell = nobody
        if self._live.get(live.job.id) is live:
            self._tell(Cancelled(live.job.id))

    async def drain(self, limit_s: float) -> None:
        """Refuse new jobs and wait for those there are; after `limit_s` end what is left."""
        self._refuse("it is draining")
        await self._finish(limit_s)

    async def stop(self) -> None:
        """End what is left, then the workers."""
        self._refuse("it has stopped")
        await self._finish(0)
        if self._autoscaling:
            self._autoscaling.end()
        await self.staff.close()
        self._turns.close()
        if self._wake is not None:
            self._wake.cancel()

    async def until_broken(self) -> ExecutionError:
        """Wait until the engine breaks and return why. A server should then stop with this error."""
        await self._broken.wait()
        assert self._failure is not None
        return self._failure

    @property
    def backlog_s(self) -> float:
        """Work before each worker, in seconds."""
        return self._backlog.seconds

    def snapshot(self) -> Snapshot:
        """Return the counters as they stand."""
        return Snapshot(
            queued_jobs=len(self._live),
            batches=self._batches,
            failed_batches=self._failed_batches,
            split_batches=self._split_batches,
            backlog_s=self._backlog.seconds,
            latency_ratios=self._drift.ratios(),
            lost_workers=self._lost_workers,
            workers=self.staff.states,
            decisions=self._decisions.summary(),
            queued_requests=sum(live.job.requests for live in self._live.values()),
        )

    def watch(self, ran: Callable[[Batch, int], None]) -> None:
        """Call `ran` with each batch that ran from now on, and for how many nanoseconds it took the device."""
        self._watchers.append(ran)

    def watch_judged(self, judged: Callable[[Batch, Confidences], None]) -> None:
        """As `watch`, but before it: with each batch that was a cascade's first stage, and its confidences."""
        self._judge_watchers.append(judged)

    def watch_decisions(self, decided: Callable[[Entry, int], None]) -> None:
        """Call `decided` with each call of the scheduler from now on, and how many nanoseconds it took."""
        self._decision_watchers.append(decided)

    async def _finish(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            self._tell(Shutdown())
            await self._idle.wait()

    def _refuse(self, why: str) -> None:
        self._taking = False
        self._why_not = why

    # Events

    def _tell(self, event: Event) -> None:
        self._turns.tell(event)

    def _scheduler_failed(self, events: Sequence[Event], error: Exception) -> None:
        """Whatever goes wrong in the scheduler, or with what it asks for, is a bug, and rule 2 applies."""
        log.critical("the scheduler failed on %r", events, exc_info=error)
        self._break(f"the scheduler failed: {type(error).__name__}: {error}")

    def _report(self, news: News, outputs: Outputs | None = None) -> None:
        match news:
            case Finished():
                self._batches += 1
                self._split_batches += bool(news.fits)
                batch = self._sent[news.batch][0]
                for judged in self._judge_watchers if batch.judged else ():
                    judged(batch, news.confidences(batch))
                for ran in self._watchers:
                    ran(batch, news.took_ns)
                self._keep(news, outputs or {})
            case BatchFailed(number):
                self._failed_batches += 1
                self._sent.pop(number, None)
            case WorkerLost(worker):
                self.staff.heard(news)
                self._lost_workers += 1
                self._unheard[worker] += 1
                self._sent = {i: sent for i, sent in self._sent.items() if sent[0].worker != worker}
            case GivenUp(_, detail):
                if self._taking and self.staff.given_up:
                    self._break(f"no worker can be started any more: {detail}")
                return
        self._tell(news)

    def _keep(self, news: Finished, outputs: Outputs) -> None:
        """Take the outputs of a batch apart, for the jobs that still wait for them."""
        batch, jobs = self._sent.pop(news.batch)
        self._holders.note(news.kept_of(batch), batch.worker, self._live)
        if not (news.fits or news.undone or batch.resumed):
            self._drift.note(batch, news.took_ns)
        undone = {(corrupt.job, corrupt.request) for corrupt in news.undone}
        outputs = {name: rows.copy() for name, rows in outputs.items()}  # valid during this call only
        row = 0
        for part, live in zip(batch.parts, jobs, strict=True):
            ran = [r for r in part.requests if (part.job, r) not in undone] if undone else part.requests
            if self._live.get(part.job) is live:
                live.tensors.keep(ran, {name: rows[row : row + len(ran)] for name, rows in outputs.items()})
            row += len(ran)

    # Actions

    def _carry_out(self, entry: Entry, took_ns: int) -> None:
        self._decisions.add(took_ns)
        if self._journal is not None:
            self._journal.append(entry)
        for decided in self._decision_watchers:
            decided(entry, took_ns)
        if self._unheard:
            self._unheard -= Counter(event.worker for event in entry.events if isinstance(event, WorkerLost))
        self._do(entry.actions)
        if self._live and any(isinstance(event, Shutdown) for event in entry.events):
            self._break("the scheduler left jobs without an outcome at the end")

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:  # batches first: a device may be idle, while clients have waited longer already
            if isinstance(action, Dispatch):
                self._dispatch(action.batch)
        for action in actions:
            if isinstance(action, Complete):
                self._complete(action.receipt)
            elif isinstance(action, WakeAt):
                self._wake_at(action.at_ns)
            elif isinstance(action, Retired):
                self.staff.retired(action.worker)
            elif isinstance(action, Reload):
                self.staff.reload(action.worker, action.profiles)

    def _dispatch(self, batch: Batch) -> None:
        if batch.worker in self._unheard:
            return  # lost while this was decided: the scheduler will hear of that, for this batch too
        jobs = [self._live[part.job] for part in batch.parts]
        self._sent[batch.id] = batch, jobs
        self.staff.send(serving.work_of(batch, self._modes[batch.model], jobs))

    def _complete(self, receipt: Receipt) -> None:
        live = self._live.pop(receipt.job.id)
        self._backlog.remove(live.job)
        self._holders.over(live.job.id)
        if not self._live:
            self._idle.set()
        try:
            outputs = live.tensors.outputs() if receipt.finish_ns is not None else None
        except ExecutionError as error:
            live.tell(error)
            return
        live.tell(Answer(receipt, outputs))

    def _wake_at(self, at_ns: int) -> None:
        """Tick at this time, and not before; the timer is set anew only where it would come too late."""
        self._due_ns = at_ns
        if self._wake is not None and self._wakes_ns > at_ns:
            self._wake.cancel()
            self._wake = None
        if self._wake is None:
            self._wakes_ns = at_ns
            delay_s = max(0.0, to_s(at_ns - self.now_ns()))
            self._wake = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._wake = None
        if self.now_ns() < self._due_ns:  # put off meanwhile; or the loop's timers are coarser than the clock
            self._wake_at(self._due_ns)
        else:
            self._tell(Tick())

    def _break(self, why: str) -> None:
        if self._failure is not None:
            return
        log.critical("the engine is broken: %s", why)
        self._turns.close()
        self._refuse("it is broken")
        self._failure = ExecutionError(f"{why}; this is a fault of the server, which has to be started anew")
        lost = list(self._live.values())
        self._live.clear()
        for live in lost:
            live.tell(ExecutionError(str(self._failure)))
        self._idle.set()
        self._broken.set()
