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

    @property
    def profiled_ns(self) -> int:
        """What 𝒟 says that it takes."""
        batch, table = self.batch, self.table
        if batch.resumed:
            first = table.modes.index(batch.resumed)
            found = table.resuming_ns(first, self.mode, batch.bucket, batch.fresh, batch.size)
            assert found is not None, "a batch is resumed where that takes less"
            return found
        return int(table.profiled_ns[self.mode, batch.bucket, batch.size])

    def kept(self, finished: Finished, job: str) -> set[int]:
        """Return of which of a job's requests the worker keeps features."""
        return {request for name, request in finished.kept_of(self.batch) if name == job}
