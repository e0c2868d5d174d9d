"""What a replay knows and a server does not: how right its answers were. It is told, and tells what that says.

Feedback goes out when every job has its outcome, so that it takes nothing from them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import ExecutionError
from mosel.core.types import Job
from mosel.evaluation.client import Client
from mosel.evaluation.receipts import Sent
from mosel.models.base import Model

OK = 200


async def give_feedback(
    clients: Mapping[str, Client],
    models: Sequence[Model],
    jobs: Sequence[Job],
    sent: Sequence[Sent],
    labels: Mapping[str, NDArray[Any]],
) -> dict[str, Any]:
    """Tell a server how right its answers were; returns by model what it makes of that.

    Models whose weights mean nothing are left out, and jobs without outputs or labels.

    Args:
        clients: of each model.
        models: those that were replayed.
        jobs: the workload's.
        sent: what came of each.
        labels: of each model's samples.

    Raises:
        ExecutionError: the server does not take it, as it does when jobs of an earlier replay had the same ids.
        NotReadyError: it is gone.
    """
    trained = {model.name: model for model in models if model.trained}
    for job, one in zip(jobs, sent, strict=True):
        if job.model in trained and one.payload.labelled and one.reply is not None and one.reply.outputs:
            scores = _scores(trained[job.model], one, labels[job.model])
            status, found = await clients[job.model].feedback(job.id, scores, job.tenant)
            if status != OK:
                raise ExecutionError(
                    f"the server took no feedback on job {job.id!r}: {found.get('error', f'status {status}')}; "
                    "replay against a server that is started anew, or without --feedback"
                )
    return {name: await clients[name].accuracy() for name in trained}


def _scores(model: Model, one: Sent, labels: NDArray[Any]) -> list[float]:
    """How right each answer of a job is, on 0..1."""
    assert one.reply is not None
    found = model.score(one.reply.outputs, labels[one.payload.indices])
    if found.ndim > 1:  # how much is right, and how much there is
        found = np.clip(found[:, 0] / found[:, 1], 0, 1)
    return [float(score) for score in found]
