"""The words of mosel: mode, strategy, job, batch, receipt. Frozen, and free of behaviour that needs a clock."""

from collections.abc import Iterable

from msgspec import Struct

from mosel.core.states import Reason, State

ACCURACY_TOLERANCE = 1e-9
"""An accuracy SLO holds when Σ accuracy ≥ SLO × requests − this, times requests (`formats.md`)."""


def mode_name(modalities: Iterable[str], precision: str = "") -> str:
    """Return a mode's name: its modalities joined by `+`, then `@precision` where there are several."""
    joined = "+".join(modalities)
    return f"{joined}@{precision}" if precision else joined


class Job(Struct, frozen=True):
    """One or more requests sent together with one accuracy SLO and one latency SLO.

    Attributes:
        id: the job's name, unique in a run.
        model: the model that serves it.
        requests: how many inferences it asks for, |R| in §5.1.
        accuracy_slo: least mean accuracy over its requests, α in §5.1, on 0..1.
        arrival_ns: when its headers were received.
        deadline_ns: arrival plus latency SLO; it never slides.
        modalities: those that the job has, in the model's order; empty means all.
        weight: what an on-time request of this job is worth to policies that weigh.
        tenant: who sent it.
        length: the longest of its requests in the model's own length unit; None if it has none.
    """

    id: str
    model: str
    requests: int
    accuracy_slo: float
    arrival_ns: int
    deadline_ns: int
    modalities: tuple[str, ...] = ()
    weight: float = 1.0
    tenant: str = ""
    length: float | None = None


class Part(Struct, frozen=True):
    """The requests of one job that run in one batch; `requests` are indices into the job."""

    job: str
    requests: tuple[int, ...]


class Batch(Struct, frozen=True):
    """Requests of one or more jobs that run together on one worker in one mode.

    `bucket` indexes the profile's length buckets (0 where it has none); `expected_ns` is the estimate the
    scheduler made when it sent the batch. `judged` says that it is a cascade's first stage, so that the model's
    confidence in each answer is asked for. The worker keeps features of those whose confidence is not
    `keep_below` at least, if that is given. `resumed` names the mode of a first stage of which it has features,
    `resumes` the requests, in the order of the parts. Of these only what is new is encoded.
    """

    id: int
    worker: int
    model: str
    mode: str
    bucket: int
    parts: tuple[Part, ...]
    expected_ns: int
    judged: bool = False
    keep_below: float | None = None
    resumed: str = ""
    resumes: tuple[bool, ...] = ()

    @property
    def size(self) -> int:
        """How many requests the batch holds."""
        return sum([len(part.requests) for part in self.parts])

    @property
    def fresh(self) -> int:
        """Of how many of its requests nothing is kept."""
        return self.size - sum(self.resumes)

    @property
    def picked_up(self) -> tuple[tuple[str, int], ...]:
        """Which first stage it resumes, and for how many of its requests; empty if none."""
        return ((self.resumed, sum(self.resumes)),) if self.resumed else ()


class BatchRun(Struct, frozen=True):
    """A batch as it ran, for receipts and `batches.csv`; `requests` of its `size` are the receipt's job's.

    `resumed` names the mode of a first stage of which features were kept, and of how many of its requests.
    """

    id: int
    worker: int
    mode: str
    size: int
    start_ns: int
    finish_ns: int
    requests: int = 0
    resumed: tuple[tuple[str, int], ...] = ()


class Receipt(Struct, frozen=True):
    """What became of a job.

    Attributes:
        job: the job's id.
        outcome: one of `states.OUTCOMES`.
        reason: the documented code that explains the outcome.
        detail: one sentence for a person.
        decided_ns: when the outcome was known.
        finish_ns: when its last request was done; None unless served or late.
        accuracy: mean expected accuracy over its requests; None unless served or late.
        modes: how many of its requests ran last in each mode, in the order in which the modes first ran.
        batches: the batches that carried its requests.
        cascaded: how many of its requests ran in the first stage of a cascade, and then once more or not.
    """

    job: Job
    outcome: State
    reason: Reason
    detail: str
    decided_ns: int
    finish_ns: int | None = None
    accuracy: float | None = None
    modes: tuple[tuple[str, int], ...] = ()
    batches: tuple[BatchRun, ...] = ()
    cascaded: int = 0
