"""A batch with a worker, as the scheduler keeps it until what came of it is known."""

from msgspec import Struct

from mosel.core.types import Batch
from mosel.online.events import Finished
from mosel.online.jobs import LiveJob
from mosel.online.tables import ModelTable


class Sent(Struct, eq=False):
    """A batch with a worker; `start_ns` is None while another batch runs before it."""

    batch: Batch
    table: ModelTable
    mode: int
    jobs: tuple[LiveJob, ...]
    start_ns: int | None

    def judged(self, finished: Finished, job: str) -> dict[int, float]:
        """Return the confidence in each request of a job that ran, as far as it is known."""
        found = finished.confidences(self.batch)
        return {request: confidence for (name, request), confidence in found.items() if name == job}
