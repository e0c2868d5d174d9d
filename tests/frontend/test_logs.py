import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Job, Receipt
from mosel.frontend.best import Choice
from mosel.frontend.endings import Ended
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.logs import FIELDS, JsonLines, log_ended, logging_to_stderr, logs_jobs, notes
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import WAVE, infer

JOB = Job("j1", "m", 2, 0.5, 1_000_000, 10_000_000)
SERVED = Receipt(
    JOB, State.SERVED, Reason.ON_TIME, "served", 3_500_000, 3_500_000, 0.8, (("text", 1), ("sound", 1))
)
DROPPED = Receipt(JOB, State.DROPPED, Reason.NO_TIME_LEFT, "the queue\nis long", 2_000_000)


@pytest.fixture
def jobs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged on jobs, at every level."""
    with caplog.at_level(logging.DEBUG, "mosel.jobs"):
        yield caplog


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record is in JSON; it is one line."""
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_served_job_is_logged_at_debug(jobs: pytest.LogCaptureFixture) -> None:
    """Its line has the job's id and model, and the codes, modes and time of its receipt."""
    log_ended(Ended(SERVED, Choice.MOST_ACCURATE, 1_000_000, 3_600_000))
    line = line_of(jobs.records[0])
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "debug",
        "logger": "mosel.jobs",
        "message": "job j1 of model m: served (on_time)",
        "job": "j1",
        "model": "m",
        "requests": 2,
        "outcome": "served",
        "reason": "on_time",
        "decision": "most_accurate",
        "modes": "text:1;sound:1",
        "decided_ms": 2.5,
    }


def test_other_jobs_are_logged_at_info_and_say_why(jobs: pytest.LogCaptureFixture) -> None:
    """A job that was not served has the receipt's sentence in its message; it stays one line."""
    with jobs.at_level(logging.INFO, "mosel.jobs"):
        log_ended(Ended(SERVED, Choice.MOST_ACCURATE, 1_000_000, 3_600_000))
        log_ended(Ended(DROPPED, Choice.NOT_RUN, None, 2_000_000))
    (record,) = jobs.records
    line = line_of(record)
    assert (line["level"], line["reason"], line["modes"]) == ("info", "no_time_left", "")
    assert line["message"] == "job j1 of model m: dropped (no_time_left): the queue\nis long"


def test_lines_of_others_have_no_job() -> None:
    """A record without a job has none of its fields; a traceback and odd letters stay on the line."""
    try:
        raise ValueError("ä\n𝒟")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it %s", ("failed\r",), sys.exc_info())
    line = line_of(record)
    assert not set(FIELDS) & set(line)
    assert (line["level"], line["message"]) == ("error", "it failed\r")
    assert line["exception"].endswith("ValueError: ä\n𝒟")


def test_levels_at_which_jobs_are_logged() -> None:
    """At the default level no job has a line, so that none is made."""
    assert [logs_jobs(level) for level in ("warning", "info", "debug")] == [False, True, True]


async def test_every_ending_is_told(model: Model, profile: Profile) -> None:
    """Whoever watches a service is told of each job once, with when it was handed in and told."""
    seen: list[Ended] = []
    served = [ServedModel("m", model, profile)]
    service = Service(InstantEngine(zeros(model)), served, watchers=[seen.append])
    await infer(service, {"inputs": [WAVE]})
    (ended,) = seen
    assert ended.receipt.outcome is State.SERVED
    assert ended.handed_in_ns is not None
    assert ended.receipt.job.arrival_ns <= ended.handed_in_ns <= ended.told_ns


def test_logging_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """What mosel logs from the level on goes to stderr, once, while a server runs, and not afterwards."""
    log, before = logging.getLogger("mosel.x"), logging.getLogger("mosel").level
    with logging_to_stderr("json", "info"):
        log.debug("hidden")
        log.info("shown")
        logging.getLogger("other").info("hidden")
        logging.getLogger("other").warning("shown too")
    log.critical("after it")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["shown", "shown too"]
    assert logging.getLogger("mosel").level == before


def test_quiet_leaves_notes_out(caplog: pytest.LogCaptureFixture) -> None:
    """A server's notes on itself are logged whatever the level, but not when it is to be quiet."""
    caplog.set_level(logging.INFO, "mosel.serve")
    notes(quiet=True)("hidden")
    notes(quiet=False)("100% of it")
    assert caplog.messages == ["100% of it"]
