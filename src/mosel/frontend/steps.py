"""Lazy upload in two steps: the dear modality of a cascade is asked for only when a request turned out unsure.

The first upload brings the modalities of a cascade's first stage. It runs as a job of its own; if the model is
sure of every answer that is all. Otherwise the place is held on, and the client sends what the last stage needs
besides, of the unsure requests alone; these run as a second job, with the same deadline. What answers count is
the scheduler's own reckoning (`online/unsure.py`), and the receipt is that of one job.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.states import Reason, State
from mosel.core.types import ACCURACY_TOLERANCE, Job, Receipt
from mosel.frontend.calls import Input
from mosel.models.base import Model
from mosel.online.columns import CascadeColumn, LeftOut
from mosel.online.engine import Answer
from mosel.online.execution import judge
from mosel.online.serving import ServedModel
from mosel.online.tables import ModelTable
from mosel.online.unsure import Held, Promise, judged

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class First:
    """What the first stage of an offered job left.

    Attributes:
        whole: the job as it was offered.
        column: its cascade.
        inputs: the tensors that came, by name, of all its requests.
        answer: the first stage's receipt and outputs.
        confidence: the model's, of each request; NaN where it told none.
        counts: what each request counts once no more of it runs, escalated if it is unsure.
        unsure: what the unsure requests hold, by index.
    """

    whole: Job
    column: CascadeColumn
    inputs: Arrays
    answer: Answer
    confidence: tuple[float, ...]
    counts: tuple[float, ...]
    unsure: Mapping[int, Held]

    @property
    def rows(self) -> list[int]:
        """The unsure requests, ascending."""
        return sorted(self.unsure)


class Steps:
    """Takes jobs in cascades through their stages, for offers.

    Args:
        served: the models.
    """

    def __init__(self, served: Iterable[ServedModel]) -> None:
        self._models: dict[str, Model] = {}
        self._tables: dict[str, ModelTable] = {}
        for one in served:
            self._models[one.model.name] = one.model
            self._tables[one.model.name] = ModelTable(one.profile)
        self._left_out = LeftOut()

    def kept(self, first: First | None) -> tuple[Input, ...]:
        """Return the tensors that are there of the unsure requests, as they came; none before a first step."""
        if first is None:
            return ()
        types = {t.name: t.datatype for m in self._models[first.whole.model].modalities for t in m.inputs}
        return tuple(Input(name, types[name], array[first.rows]) for name, array in first.inputs.items())

    def first_job(self, job: Job, column: CascadeColumn) -> Job:
        """Return what the engine is asked for of a job whose first upload is here: the first stage's mode."""
        return replace(job, accuracy_slo=float(self._tables[job.model].accuracy[column.first]))

    def last_job(self, first: First) -> Job:
        """Return what is asked for of its unsure requests: the last stage's mode."""
        table, whole = self._tables[first.whole.model], first.whole
        slo = float(table.accuracy[first.column.last])
        return replace(whole, id=f"{whole.id}.2", requests=len(first.unsure), accuracy_slo=slo)

    def judge(self, whole: Job, column: CascadeColumn, inputs: Arrays, answer: Answer) -> First:
        """Return what the first stage left; an answer in another mode than its own is unsure."""
        assert answer.outputs is not None
        table = self._tables[whole.model]
        confidence = judge(self._models[whole.model], answer.outputs)
        if not confidence or answer.receipt.modes != ((table.modes[column.first], whole.requests),):
            confidence = (float("nan"),) * whole.requests
        accuracy = float(table.accuracy[column.first])
        promise = Promise(column, accuracy, accuracy >= whole.accuracy_slo - ACCURACY_TOLERANCE)
        every = [judged(promise, one, table, self._left_out) for one in confidence]
        unsure = {at: held for at, (_, held) in enumerate(every) if held is not None}
        return First(whole, column, inputs, answer, confidence, tuple(count for count, _ in every), unsure)

    def sure(self, first: First) -> Answer:
        """Return the answer to a job of which no request is unsure."""
        finish_ns = first.answer.receipt.finish_ns
        assert finish_ns is not None
        return Answer(self._receipt(first, first.counts, finish_ns), first.answer.outputs)

    def as_it_is(self, first: First, last: Answer | None, now_ns: int) -> Answer:
        """Return the answer to a job whose unsure requests do not run once more.

        If its accuracy SLO does not hold with what is there, it is dropped, or ends as the second job did.
        """
        counts = [
            first.unsure[at].kept if at in first.unsure else count for at, count in enumerate(first.counts)
        ]
        whole = first.whole
        if sum(counts) < (whole.accuracy_slo - ACCURACY_TOLERANCE) * whole.requests:
            return Answer(_given_up(first, last, now_ns), None)
        self._note(first, left_out=True)
        return Answer(self._receipt(first, counts, now_ns), first.answer.outputs)

    def together(self, first: First, last: Answer, now_ns: int) -> Answer:
        """Return the answer to a job whose unsure requests ran in the last stage, or were to."""
        if last.outputs is None:
            return self.as_it_is(first, last, now_ns)
        assert first.answer.outputs is not None
        assert last.receipt.finish_ns is not None
        self._note(first, left_out=False)
        outputs = {name: array.copy() for name, array in first.answer.outputs.items()}
        for name, array in last.outputs.items():
            outputs[name][first.rows] = array
        return Answer(self._receipt(first, first.counts, last.receipt.finish_ns, last.receipt), outputs)

    def _receipt(
        self, first: First, counts: Sequence[float], finish_ns: int, last: Receipt | None = None
    ) -> Receipt:
        """The receipt of the whole job, of which the last stage ran if `last` is given."""
        late = finish_ns > first.whole.deadline_ns
        names, gone = self._tables[first.whole.model].modes, len(first.unsure)
        ran = {names[first.column.first]: first.whole.requests - gone, names[first.column.last]: gone}
        return Receipt(
            first.whole,
            State.LATE if late else State.SERVED,
            Reason.AFTER_DEADLINE if late else Reason.ON_TIME,
            "finished after its deadline" if late else "",
            finish_ns,
            finish_ns,
            float(np.mean(counts)),
            first.answer.receipt.modes if last is None else tuple((m, n) for m, n in ran.items() if n),
            first.answer.receipt.batches + (last.batches if last else ()),
        )

    def _note(self, first: First, *, left_out: bool) -> None:
        for held in first.unsure.values():
            if held.optional:
                self._left_out.note(first.whole.model, held.cascade, left_out=left_out)


def _given_up(first: First, last: Answer | None, now_ns: int) -> Receipt:
    """The receipt of a job that has no answer: dropped, unless the second job failed."""
    batches = first.answer.receipt.batches
    if last is not None:
        batches += last.receipt.batches
        if last.receipt.outcome is State.FAILED:
            return replace(last.receipt, job=first.whole, accuracy=None, modes=(), batches=batches)
    detail = "its unsure requests could no longer run once more by its deadline"
    return Receipt(first.whole, State.DROPPED, Reason.NO_TIME_LEFT, detail, now_ns, batches=batches)
