"""An inference call whose job is with the engine, from when it was handed in until somebody is told of its end.

It is no task that waits, but an object that is called: with tens of thousands of calls a second, making tasks
and waking them is most of the work.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from mosel.core.errors import MoselError
from mosel.core.states import Reason, State
from mosel.core.types import Batch, Job, Receipt
from mosel.frontend.answered import Answered
from mosel.frontend.best import Choice
from mosel.frontend.calls import Call
from mosel.frontend.checks import Checked
from mosel.frontend.history import History
from mosel.frontend.repository import Repository
from mosel.frontend.statistics import Statistics
from mosel.models.base import Model, Tensor
from mosel.online.answers import Answer, Confidences, Live, Snapshot


class Outcome(NamedTuple):
    """A job's receipt, the outputs asked for with their declarations, if it has any, and why its modes.

    Of an offer that goes on in another step `further` says what is wanted next, and there is no answer yet.
    """

    receipt: Receipt
    outputs: tuple[tuple[Tensor, NDArray[Any]], ...] | None
    choice: Choice | None = None
    further: Mapping[str, Any] | None = None


Tell = Callable[[Outcome | Exception | None], None]
"""Is handed what became of a call, once, on the event loop; an error means that the server itself failed, None
that it was cancelled.
"""


class Engine(Protocol):
    """What the service needs of an engine (`online/engine.py`)."""

    @property
    def ready(self) -> bool:
        """Whether it is warm and takes jobs."""

    def now_ns(self) -> int:
        """Return the engine's clock."""

    @property
    def backlog_s(self) -> float:
        """Work before each worker, in seconds."""

    def snapshot(self) -> Snapshot:
        """Return its counters."""

    def watch(self, ran: Callable[[Batch, int], None]) -> None:
        """Call `ran` with each batch that ran from now on, and for how many nanoseconds it took the device."""

    def watch_judged(self, judged: Callable[[Batch, Confidences], None]) -> None:
        """Call `judged` with each batch from now on that was a cascade's first stage, and its confidences."""

    async def submit(self, job: Job, inputs: Mapping[str, NDArray[Any]]) -> Answer:
        """Run a job; cancelling the awaiting task cancels the job."""

    def hand_in(
        self, job: Job, inputs: Mapping[str, NDArray[Any]], tell: Callable[[Answer | MoselError], None]
    ) -> Live | None:
        """Run a job and call `tell` with its answer, unless it is withdrawn; None if that is done already."""

    def withdraw(self, live: Live) -> None:
        """Let a job run no more."""


class Books(Protocol):
    """Where a call is taken down; the service's own."""

    answered: Answered
    history: History
    repository: Repository
    statistics: Statistics

    def now_ns(self) -> int:
        """Return the server's clock."""

    def ended(self, receipt: Receipt, handed_in_ns: int | None = None) -> Choice:
        """Take down what became of a job, and return why it ran in its modes."""

    def saw(self, checked: Checked, answer: Answer) -> None:
        """Take down a job that has its answer, with its tensors."""

    def withdraw(self, live: Live) -> None:
        """Let the engine run a job no more."""


class Cancellable(Protocol):
    """A call under way."""

    def cancel(self) -> object:
        """Let it go, as its client has gone."""


class Running:
    """One call.

    Args:
        books: where it is taken down.
        model: what it is for.
        call: the call.
        checked: the job that it became, and its tensors.
        tell: is told of its end.
    """

    __slots__ = ("_books", "_call", "_checked", "_handed_in_ns", "_job", "_live", "_model", "_over", "_tell")

    def __init__(self, books: Books, model: Model, call: Call, checked: Checked, tell: Tell) -> None:
        self._books, self._model, self._call, self._tell = books, model, call, tell
        self._checked, self._job = checked, checked.job
        self._handed_in_ns = books.now_ns()
        self._live: Live | None = None
        self._over = False
        if call.id:
            books.answered.begin(call.id, checked.job)

    def runs_as(self, live: Live | None) -> None:
        """Take over what the engine keeps of the job."""
        self._live = live

    def end(self, answer: "Answer | Exception") -> None:
        """Take down the job's end, and tell of it."""
        if self._over:
            return
        try:
            found: Outcome | Exception = self._outcome(answer)
        except Exception as error:  # a bug, which whoever answers the client makes known
            found = error
        self._tell(found)

    def refused(self) -> None:
        """Take down that the engine did not take the job, which therefore never arrived."""
        if not self._over:
            self._leave()
            self._books.statistics.failed(self._job, self._books.now_ns())

    def cancel(self) -> None:
        """Let the job go, as its client has gone."""
        if self._over:
            return
        if self._live is not None:
            self._books.withdraw(self._live)
        self._leave()
        now_ns = self._books.now_ns()
        gone = Receipt(self._job, State.DROPPED, Reason.CANCELLED, "the client went away", now_ns)
        self._books.ended(gone, self._handed_in_ns)
        self._books.statistics.failed(self._job, now_ns)
        self._tell(None)

    def _outcome(self, answer: "Answer | Exception") -> Outcome | Exception:
        if isinstance(answer, Exception):
            answer = Answer(failure(self._job, answer, self._books.now_ns()), None)
        self._leave(has_outputs=answer.outputs is not None)
        choice = self._books.ended(answer.receipt, self._handed_in_ns)
        self._books.saw(self._checked, answer)
        self._books.statistics.answered(answer.receipt, self._handed_in_ns, self._books.now_ns())
        return Outcome(answer.receipt, chosen(self._model.outputs, self._call.outputs, answer.outputs), choice)

    def _leave(self, *, has_outputs: bool = False) -> None:
        self._over = True
        self._live = None  # it names this one, which should be freed at once and not be garbage
        if self._call.id:
            self._books.answered.end(self._call.id, self._job, has_outputs=has_outputs)
        self._books.repository.end(self._job.model)


def failure(job: Job, error: Exception, now_ns: int) -> Receipt:
    """Return the receipt of a job on which the server itself failed."""
    return Receipt(job, State.FAILED, Reason.SERVER_FAILED, " ".join(str(error).split()), now_ns)


def chosen(
    declared: Sequence[Tensor], asked: Sequence[str], found: Mapping[str, NDArray[Any]] | None
) -> tuple[tuple[Tensor, NDArray[Any]], ...] | None:
    """Return the outputs that were asked for, all if none was, with their declarations."""
    if found is None:
        return None
    if not asked:
        return tuple([(tensor, found[tensor.name]) for tensor in declared])
    by_name = {tensor.name: tensor for tensor in declared}
    return tuple([(by_name[name], found[name]) for name in asked])


def awaited(calling: Coroutine[object, object, Outcome], tell: Tell) -> Cancellable:
    """Run a call that takes several steps as a task, and tell of its end like `Running`."""
    task = asyncio.get_running_loop().create_task(calling)

    def done(_: "asyncio.Task[Outcome]") -> None:
        if task.cancelled():
            tell(None)
        else:
            error = task.exception()
            tell(task.result() if error is None else error if isinstance(error, Exception) else None)

    task.add_done_callback(done)
    return task
