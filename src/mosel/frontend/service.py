"""One handler set behind every protocol: what a server is asked, answered in plain values and typed errors.

A protocol's own module decodes a call, hands it here, and encodes the answer. How the engine decides is not
known here, nor are protocol codes.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from mosel import __version__
from mosel.core.clock import to_s
from mosel.core.errors import ExecutionError, RefusedError, UnknownModelError
from mosel.core.states import Reason, State
from mosel.core.types import Job, Receipt
from mosel.frontend.answered import Answered
from mosel.frontend.best import Best, Choice, modes_by_accuracy
from mosel.frontend.bodies import Bodies
from mosel.frontend.calls import Call
from mosel.frontend.checks import Checked, Checker, Limits
from mosel.frontend.configuration import configuration
from mosel.frontend.dashboard.state import state
from mosel.frontend.endings import Ended, Watcher
from mosel.frontend.feedback_body import FeedbackBody
from mosel.frontend.history import History
from mosel.frontend.metadata import metadata
from mosel.frontend.metrics import Metrics
from mosel.frontend.offers import OFFER, Held, OfferBody, Offers, after, check_upload, told, uploaded
from mosel.frontend.quotas import Quotas
from mosel.frontend.repository import Repository
from mosel.frontend.running import Cancellable, Engine, Outcome, Running, Tell, awaited, chosen, failure
from mosel.frontend.seen import Seen
from mosel.frontend.standing import drifted
from mosel.frontend.statistics import Statistics
from mosel.frontend.steps import Steps
from mosel.models.base import Model
from mosel.online.answers import Answer, Live
from mosel.online.serving import ServedModel

EXTENSIONS = (
    "binary_tensor_data",
    "schedule_policy",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)


class Service:
    """The handlers.

    Args:
        engine: runs the jobs and tells the time.
        served: the models.
        limits: how much one call may carry.
        settings: what model metadata tells of this server besides (its policy, say).
        tenants: weights of tenants; those that it does not name have 1.
        quotas: how much each tenant may send.
        watchers: are told of every job that has its outcome.
        shadow_share: of the jobs that may be compared with the most accurate mode, how many are.
        prefix: what jobs' ids begin with.
    """

    def __init__(
        self,
        engine: Engine,
        served: Sequence[ServedModel],
        limits: Limits | None = None,
        settings: Mapping[str, str | int] | None = None,
        tenants: Mapping[str, float] | None = None,
        quotas: Quotas | None = None,
        watchers: Sequence[Watcher] = (),
        shadow_share: float = 0.0,
        prefix: str = "j",
    ) -> None:
        self._watchers = tuple(watchers)
        self._quotas = quotas or Quotas()
        self.limits = limits or Limits()
        self._settings = dict(settings or {})
        self.now_ns = engine.now_ns
        self._engine = engine
        self._served = {one.model.name: one for one in served}
        self._checkers = {
            name: Checker(one.model, one.profile, self.limits, tenants) for name, one in self._served.items()
        }
        workers = len(engine.snapshot().workers) or 1
        self._steps = Steps(served)
        self._offers = Offers((one.profile for one in self._served.values()), workers)
        self._ids = map(f"{prefix}{{}}".format, itertools.count(1))
        self._best = Best(one.profile for one in self._served.values())
        self.answered = Answered()
        self._seen = Seen(served, engine, shadow_share)
        live = self._seen.accuracy.estimates, self._seen.agreement.estimates, self._seen.every_cascade
        self.metrics = Metrics(tuple(self._served), engine.snapshot, self._best, *live)
        self.history = History(engine.now_ns)
        self._modes = {name: modes_by_accuracy(one.profile) for name, one in self._served.items()}
        self.statistics = Statistics(self._served)
        self.bodies = Bodies(self.limits)
        self.repository = Repository(self._served, engine)
        for ran in (self.metrics.ran, self.statistics.ran, self.answered.ran):
            engine.watch(ran)
        engine.watch_judged(self.answered.judged)

    @property
    def ready(self) -> bool:
        """Whether jobs are taken now."""
        return self._engine.ready

    @property
    def models(self) -> list[Model]:
        """The models that are served."""
        return [one.model for one in self._served.values()]

    def server_metadata(self) -> dict[str, object]:
        """Return the server's name, version and protocol extensions."""
        return {"name": "mosel", "version": __version__, "extensions": list(EXTENSIONS)}

    def model_metadata(self, name: str, version: str = "") -> dict[str, object]:
        """Return the model's tensors, with the modality and the limits of each, and its modes.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        served = self._find(name, version)
        return metadata(served, drifted(self._seen.standing(name)), self._settings)

    def model_ready(self, name: str, version: str = "") -> bool:
        """Return whether the model takes jobs now.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        self._find(name, version)
        return self._engine.ready and self.repository.loaded(name)

    def model_config(self, name: str, version: str = "") -> dict[str, object]:
        """Return the model's configuration in Triton's form; the request dimension is not among `dims`.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        return configuration(self._find(name, version), self.limits.job_requests, self._settings)

    def model_statistics(self, name: str = "", version: str = "") -> list[dict[str, object]]:
        """Return what became of the calls for a model in Triton's form; of every model without a name.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        if name:
            self._find(name, version)
        names = [name] if name else list(self._served)
        return [self.statistics.of(one, self._served[one].model.version) for one in names]

    def version_of(self, name: str, version: str = "") -> str:
        """Return the version of the model that is served.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        return self._find(name, version).model.version

    async def infer(self, name: str, call: Call, arrival_ns: int) -> Outcome:
        """Run `call`, which arrived at `arrival_ns`, on the model called `name`; cancelling cancels the job.

        Raises:
            UnknownModelError: there is no such model.
            InputError: the call does not fit the model.
            RefusedError: the server is loading, draining or overloaded, the model has been unloaded, or the
                tenant is over its quota.
            ExecutionError: the engine itself failed.
        """
        if OFFER in call.parameters:
            return await self._infer_offered(name, call, arrival_ns)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def tell(found: Outcome | Exception | None) -> None:
            if future.done():
                return  # cancelled
            if isinstance(found, Outcome):
                future.set_result(found)
            elif found is not None:
                future.set_exception(found)

        running = self.start(name, call, arrival_ns, tell)
        try:
            return await future
        except asyncio.CancelledError:
            running.cancel()
            raise

    def start(self, name: str, call: Call, arrival_ns: int, tell: Tell) -> Cancellable:
        """Do what `infer` does, but return at once: `tell` is called with what comes of it.

        Raises:
            As `infer`, as long as the job is not with the engine.
        """
        if OFFER in call.parameters:
            return awaited(self._infer_offered(name, call, arrival_ns), tell)
        model = self._find(name, "").model
        if not self._engine.ready:
            raise RefusedError("the server is loading or draining; try again, or ask /v2/health/ready")
        self.repository.begin(name)
        try:
            checked = self._checkers[name].check(call, arrival_ns, next(self._ids))
            self._quotas.take(checked.job.tenant, checked.job.requests, arrival_ns)
        except BaseException:
            self.repository.end(name)
            raise
        running = Running(self, model, call, checked, tell)
        try:
            running.runs_as(self._engine.hand_in(checked.job, checked.inputs, running.end))
        except BaseException:
            running.refused()
            raise
        self._arrived(checked.job)
        return running

    def saw(self, checked: Checked, answer: Answer) -> None:
        """Let a job that has its answer be compared with the most accurate mode, if that is wanted."""
        self._seen.answered(answer.receipt, checked.inputs, answer.outputs)

    def withdraw(self, live: Live) -> None:
        """Let the engine run a job no more."""
        self._engine.withdraw(live)

    async def _infer_offered(self, name: str, call: Call, arrival_ns: int) -> Outcome:
        """As `infer`, for tensors of a job whose place is held."""
        served = self._find(name, "")
        if not self._engine.ready:
            raise RefusedError("the server is loading or draining; try again, or ask /v2/health/ready")
        with self.repository.using(name):
            place = self._offers.find(call.parameters[OFFER], name, arrival_ns)
            checked, held = self._uploaded(name, call, place, arrival_ns)
            handed_in_ns = self.now_ns()
            running = self._run(checked, place, handed_in_ns)
            if call.id and held is None:
                running = self.answered.follow(call.id, checked.job, running)
            answer = await running
        if held is not None:
            further = after(held, checked.inputs, answer, self._steps, self._offers, self.now_ns())
            if isinstance(further, Held):
                return Outcome(answer.receipt, None, further=self._held(further, served.model, self.now_ns()))
            answer = further
        choice = self.ended(answer.receipt, handed_in_ns)
        if held is None:
            self.saw(checked, answer)
        self.statistics.answered(answer.receipt, handed_in_ns, self.now_ns())
        return Outcome(answer.receipt, chosen(served.model.outputs, call.outputs, answer.outputs), choice)

    def offer(self, name: str, body: OfferBody, arrival_ns: int) -> dict[str, object]:
        """Hold a place for a job whose tensors are yet to come, and say which are wanted and for how long.

        Raises:
            UnknownModelError: there is no such model.
            InputError: the offer does not fit the model, or its accuracy SLO cannot be reached.
            RefusedError: the server is loading, draining or overloaded, the model has been unloaded, the tenant
                is over its quota, or the job would be late even alone.
        """
        model = self._find(name, "").model
        if not self._engine.ready:
            raise RefusedError("the server is loading or draining; try again, or ask /v2/health/ready")
        with self.repository.using(name):
            job = self._checkers[name].check_offer(
                body.requests, body.modalities, body.parameters, arrival_ns, next(self._ids)
            )
        self._quotas.take(job.tenant, job.requests, arrival_ns)
        now_ns = self._engine.now_ns()
        held = self._offers.hold(job, self._engine.backlog_s, now_ns, body.steps)
        self._arrived(job)
        return self._held(held, model, now_ns)

    def _held(self, held: Held, model: Model, now_ns: int) -> dict[str, object]:
        """Let a place be held no longer than it is for; returns what its client is told."""
        hold_s = to_s(held.until_ns - now_ns)
        asyncio.get_running_loop().call_later(hold_s, self._expire, held.id, held.until_ns)
        return told(held, model, now_ns)

    def feedback(self, name: str, body: FeedbackBody) -> dict[str, object]:
        """Take in how right the answers to a job were, and say which modes they count for.

        Raises:
            UnknownModelError: there is no such model.
            GoneError: no such job is held, or it has its feedback.
            InputError: the scores are not as many as its requests, or several jobs had its id.
        """
        self._find(name, "")
        modes = self.answered.take(name, body)
        found = self._seen.scored(name, modes, body.scores)
        left_out = len(modes) - sum(found.values())
        return {"model_name": name, "id": body.id, "counted": found, "left_out": left_out}

    def live_accuracy(self, name: str, version: str = "") -> dict[str, object]:
        """Return what feedback and shadow runs say of each mode of a model, beside its profile.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        metric = self._find(name, version).profile.metric
        modes, cascades = self._seen.of_model(name), self._seen.cascades(name)
        compared = self._seen.cascade_agreement(name)
        told = {"modes": modes, "cascades": cascades, "cascade_agreement": compared}
        return {"model_name": name, "metric": metric, **told}

    def close(self) -> None:
        """Give every offer that is still open its outcome: the server has stopped, and no tensors will come."""
        for offer in self._offers.names:
            self._expire(offer)

    def _expire(self, offer: str, until_ns: int | None = None) -> None:
        """Give an offer up whose tensors are not here; it may be held on by now, for longer than `until_ns`."""
        held = self._offers.let_go(offer, until_ns)
        if held is None:
            return  # its tensors came
        now_ns = self._engine.now_ns()
        reason, detail = Reason.NOT_UPLOADED, f"the tensors of offer {offer} were not here in time"
        if not self._engine.ready:
            reason, detail = (
                Reason.SHUTDOWN,
                f"the server stopped before the tensors of offer {offer} were here",
            )
        self.ended(Receipt(held.whole, State.DROPPED, reason, detail, now_ns))
        self.statistics.failed(held.whole, now_ns)

    def _uploaded(self, name: str, call: Call, held: Held, arrival_ns: int) -> tuple[Checked, Held | None]:
        """Return the offered job with its tensors; its place goes over to the scheduler.

        Where it goes in two steps, the job is that of one of these, and its offer is returned too.
        """
        check_upload(held, call.parameters)
        plain = replace(call, parameters={}, inputs=call.inputs + self._steps.kept(held.first))
        brought = self._checkers[name].check(plain, arrival_ns, held.job.id)
        job = uploaded(held, brought.job)
        self._offers.let_go(held.id)
        if held.first is None and (held.column is None or set(job.modalities) != set(held.wanted)):
            return Checked(job, brought.inputs), None
        if held.column is not None:
            job = self._steps.first_job(job, held.column)
        return Checked(job, brought.inputs), held

    def _arrived(self, job: Job) -> None:
        self.metrics.arrived(job)
        self.history.arrived(job)

    def dashboard(self, since_s: int) -> dict[str, object]:
        """Return what the dashboard shows, with the seconds of the server's clock from `since_s` on."""
        return state(
            self.history,
            self._engine.snapshot(),
            ready=self._engine.ready,
            settings=self._settings,
            modes=self._modes,
            profiles={name: self._seen.standing(name) for name in self._served},
            reliability=self._seen.every_cascade(),
            since_s=since_s,
        )

    async def _run(self, checked: Checked, place: Held, handed_in_ns: int) -> Answer:
        """Let the engine run a job whose place was held; it is held on if the engine does not take the job."""
        job, whole = checked.job, place.whole
        try:
            return await self._engine.submit(job, checked.inputs)
        except asyncio.CancelledError:
            now_ns = self._engine.now_ns()
            gone = Receipt(whole, State.DROPPED, Reason.CANCELLED, "the client went away", now_ns)
            self.ended(gone, handed_in_ns)
            self.statistics.failed(whole, now_ns)
            raise
        except RefusedError:
            self._offers.put_back(place)
            self.statistics.failed(job, self.now_ns())
            raise
        except ExecutionError as error:
            return Answer(failure(job, error, self.now_ns()), None)

    def ended(self, receipt: Receipt, handed_in_ns: int | None = None) -> Choice:
        """Take down what became of a job, and return why it ran in its modes."""
        choice = self._best.choice(receipt)
        self.metrics.answered(receipt)
        self.history.ended(receipt, choice)
        if self._watchers:
            ended = Ended(receipt, choice, handed_in_ns, self.now_ns())
            for watcher in self._watchers:
                watcher(ended)
        return choice

    def _find(self, name: str, version: str) -> ServedModel:
        served = self._served.get(name)
        if served is None:
            raise UnknownModelError(f"model {name!r} is not served here; expected {', '.join(self._served)}")
        if version not in ("", served.model.version):
            raise UnknownModelError(
                f"model {name!r} has no version {version!r}; expected {served.model.version!r}, or none"
            )
        return served
