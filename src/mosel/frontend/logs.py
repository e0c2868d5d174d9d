"""What a server says on stderr: lines for a person, or one JSON object a line for a program.

Only what runs the server calls `logging_to_stderr`: it is for the whole process, while the server runs.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from mosel.core.clock import to_ms
from mosel.core.states import State
from mosel.frontend.endings import Ended

FORMATS = ("text", "json")
LEVELS = ("warning", "info", "debug")
TEXT, JSON = FORMATS

FIELDS = ("job", "model", "requests", "outcome", "reason", "decision", "modes", "decided_ms")
"""What a line on a job has besides, in JSON."""

_NOTES = logging.getLogger("mosel.serve")
_JOBS = logging.getLogger("mosel.jobs")


class JsonLines(logging.Formatter):
    """Makes one JSON object of a record, on one line whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


@contextmanager
def logging_to_stderr(format_: str, level: str) -> Iterator[None]:
    """Send to stderr, in this format, what mosel logs from this level on, and the warnings of others."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if format_ == JSON else logging.Formatter("%(message)s"))
    root, own = logging.getLogger(), logging.getLogger("mosel")
    before = own.level
    root.addHandler(handler)
    own.setLevel(level.upper())
    logging.captureWarnings(format_ == JSON)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        own.setLevel(before)
        root.removeHandler(handler)


def notes(*, quiet: bool) -> Callable[[str], None]:
    """Return what logs a note of the server on itself; these are not subject to the level, but to `quiet`."""
    _NOTES.setLevel(logging.WARNING if quiet else logging.INFO)
    return lambda text: _NOTES.info("%s", text)


def logs_jobs(level: str) -> bool:
    """Return whether any job has a line of its own at this level."""
    return level != LEVELS[0]


def log_ended(ended: Ended) -> None:
    """Log what became of a job: at debug if it was served, else at info, with the receipt's sentence."""
    receipt = ended.receipt
    served = receipt.outcome is State.SERVED
    level = logging.DEBUG if served else logging.INFO
    if not _JOBS.isEnabledFor(level):
        return
    job, why = receipt.job, "" if served else f": {receipt.detail}"
    fields = (
        job.id,
        job.model,
        job.requests,
        receipt.outcome.value,
        receipt.reason.value,
        ended.choice.value,
        ";".join(f"{mode}:{count}" for mode, count in receipt.modes),
        to_ms(receipt.decided_ns - job.arrival_ns),
    )
    message = "job %s of model %s: %s (%s)%s"
    told = job.id, job.model, receipt.outcome.value, receipt.reason.value, why
    _JOBS.log(level, message, *told, extra=dict(zip(FIELDS, fields, strict=True)))
