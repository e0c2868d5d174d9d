import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mosel.cli import run
from mosel.core.states import State
from mosel.core.tables import Device, Mode, Profile, write_profile
from mosel.evaluation.check import check_run
from mosel.evaluation.recorded import read_run
from mosel.online.policies import DEFAULT
from mosel.runtime.device import describe

pytestmark = pytest.mark.process

HERE = Path(__file__).parent
ACCURACY = {("audio",): 0.5, ("audio", "video"): 1.0}
LATENCY_S = {("audio",): 0.0025, ("audio", "video"): 0.0105}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sleepy model's profile and a short workload, entered; the model can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    modes = tuple(
        Mode(names, ACCURACY[names], ACCURACY[names], 40, (LATENCY_S[names],) * 4, (0.02,) * 4, (1,) * 4)
        for names in ACCURACY
    )
    profile = Profile(
        format="mosel.profile/1",
        model="sleepy",
        modalities=("audio", "video"),
        metric="accuracy",
        batch_sizes=(1, 2, 3, 4),
        modes=modes,
        device=Device(describe("cpu").name, "host"),
        precision="float32",
        software={},
        measured_at="2026-01-01T00:00:00Z",
    )
    write_profile(profile, tmp_path / "profile.json")
    return tmp_path


def make_workload(*words: str) -> None:
    """Write w.csv."""
    assert run(["workload", "poisson", "--profile", "profile.json", "-o", "w.csv", "--quiet", *words]) == 0


class Server:
    """A `mosel serve` process, with the address that it told."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process, self.url = process, url

    def kill(self) -> None:
        """Kill it and its workers at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """A server of the sleepy model that is ready."""
    with starting(folder, r"^serving .* (http://\S+)") as one:
        yield one


@contextlib.contextmanager
def starting(folder: Path, told: str, *more: str) -> Iterator[Server]:
    """Start a server and go on as soon as it has said something in which `told`, a pattern, has its address."""
    command = str(Path(sys.executable).with_name("mosel"))
    words = [command, "serve", "sleepy:model", "--profile", "profile.json"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with subprocess.Popen(
        [*words, *more, "--http", "127.0.0.1:0"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        one = Server(process, _told_address(process, told))
        yield one
        one.kill()


def _told_address(process: "subprocess.Popen[str]", pattern: str) -> str:
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"the server ended before it said so: {''.join(told)}")


def test_a_replay_records_what_the_server_did(server: Server, folder: Path) -> None:
    """Every job has one outcome, batches do not overlap, and what was promised is what the labels say."""
    make_workload("--rate", "60", "--duration", "3", "--lacking", "0.2")
    assert run(["replay", server.url, "sleepy:model", "w.csv", "-o", "run", "--quiet"]) == 0
    problems = check_run(
        folder / "run", folder / "profile.json", folder / "w.csv", profiled=False, arrival_tolerance_s=10.0
    )
    assert problems == []
    found = read_run(folder / "run")
    assert (found.summary.policy, found.summary.workers) == (DEFAULT, 1)
    assert found.summary.on_time > 0
    client = found.summary.extra["client"]
    served = sum(row.job.requests for row in found.jobs if row.outcome in (State.SERVED, State.LATE))
    assert client["answered_requests"] == served
    assert client["accuracy"] == pytest.approx(client["promised_accuracy"], abs=0.1)
    assert set(found.summary.extra["reasons"]) <= {"on_time", "after_deadline", "no_time_left"}
    assert found.batches, "receipts carry the batches"
    assert sum(batch.size for batch in found.batches) >= served


def test_feedback_tells_the_server_how_right_it_was(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Afterwards the server knows the accuracy that the client saw; the same ids again are refused."""
    make_workload("--rate", "60", "--duration", "1")
    words = ["replay", server.url, "sleepy:model", "w.csv", "--feedback", "--quiet"]
    assert run([*words, "-o", "run"]) == 0
    extra = read_run(folder / "run").summary.extra
    told = extra["live_accuracy"]["sleepy"]
    scores = sum(mode["scores"] for mode in told["modes"])
    assert scores == extra["client"]["answered_requests"]
    right = sum(mode["live"] * mode["scores"] for mode in told["modes"] if mode["scores"])
    assert right / scores == pytest.approx(extra["client"]["accuracy"])
    assert told["cascades"] == []
    assert run([*words, "-o", "again"]) == 1
    assert "replay against a server that is started anew" in capsys.readouterr().err


def test_a_replay_waits_for_a_server_that_is_loading(folder: Path) -> None:
    """Given time, it sends nothing before the server is ready, and then everything."""
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,2,0.9,60\n")
    with starting(folder, r"^listening on (http://\S+): loading sleepy") as loading:
        assert (
            run(["replay", loading.url, "sleepy:model", "w.csv", "-o", "run", "--quiet", "--wait", "60"]) == 0
        )
    assert [row.outcome for row in read_run(folder / "run").jobs] == [State.SERVED]


def test_refusals_are_recorded_with_their_reason(server: Server, folder: Path) -> None:
    """Jobs that the server refuses on arrival are `rejected`, and the run says why."""
    (folder / "w.csv").write_text(
        "job,arrival_s,requests,accuracy_slo,latency_slo_s,modalities\n"
        "far,0,1,0.9,1,audio\nsoon,0,1,0.9,0.001,\nfine,0.1,2,0.9,1,\n"
    )
    assert run(["replay", server.url, "sleepy:model", "w.csv", "-o", "run", "--quiet"]) == 0
    found = read_run(folder / "run")
    assert [row.outcome for row in found.jobs] == [State.REJECTED, State.REJECTED, State.SERVED]
    assert found.summary.extra["reasons"] == {
        "accuracy_unreachable": 1,
        "latency_unreachable": 1,
        "on_time": 2,
    }
    assert found.jobs[0].decided_ns >= found.jobs[0].job.arrival_ns


def test_a_server_that_dies_leaves_every_job_with_one_outcome(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in mid-run: the jobs that got no answer are `failed`, one line says so, and the status is 1."""
    make_workload("--rate", "50", "--duration", "4")
    killer = threading.Timer(2.0, server.kill)
    killer.start()
    assert run(["replay", server.url, "sleepy:model", "w.csv", "-o", "run", "--quiet"]) == 1
    killer.join()
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "count as failed (the server is gone" in told
    found = read_run(folder / "run")
    assert len(found.jobs) == len((folder / "w.csv").read_text().splitlines()) - 1
    outcomes = {row.outcome for row in found.jobs}
    assert State.FAILED in outcomes
    assert State.SERVED in outcomes
    assert (
        check_run(
            folder / "run", folder / "profile.json", folder / "w.csv", profiled=False, arrival_tolerance_s=10.0
        )
        == []
    )


def test_jobs_that_are_given_up_count_as_dropped(server: Server, folder: Path) -> None:
    """What has no answer so long after the last arrival is `dropped`, with `given up` as its reason."""
    (folder / "w.csv").write_text(
        "job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.9,60\nb,1,1000,0.9,60\n"
    )
    words = ["replay", server.url, "sleepy:model", "w.csv", "-o", "run", "--quiet"]
    assert run([*words, "--give-up", "1"]) == 0
    found = read_run(folder / "run")
    assert [row.outcome for row in found.jobs] == [State.SERVED, State.DROPPED]
    assert found.summary.extra["reasons"] == {"given up": 1000, "on_time": 1}
    assert found.jobs[1].decided_ns >= 2 * 10**9


def test_a_disk_that_is_full_leaves_whole_files_only(server: Server, folder: Path) -> None:
    """The kernel refuses to write more: one line says which file, with status 2, and no half of it is left."""
    rows = "".join(f"job-{number},0,1,0.5,30\n" for number in range(40))
    (folder / "w.csv").write_text(f"job,arrival_s,requests,accuracy_slo,latency_slo_s\n{rows}")
    command = [sys.executable, "-c", "from mosel.cli import main; main()", "replay", server.url, "sleepy:model"]
    done = subprocess.run(
        [*command, "w.csv", "-o", "run", "--quiet"],
        env={**os.environ, "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"mosel: .*jobs\.csv: cannot be written: File too large\n", done.stderr), done.stderr
    assert list((folder / "run").iterdir()) == []


def test_a_model_that_is_not_served_is_told_at_once(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sent, a model that the server does not have ends the replay with one line."""
    (folder / "other.py").write_text(
        "import dataclasses, sleepy\nmodel = dataclasses.replace(sleepy.model, name='other')\n"
    )
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.5,1\n")
    assert run(["replay", server.url, "other:model", "w.csv", "-o", "run"]) == 2
    told = capsys.readouterr().err
    assert "model 'other' is not served" in told
    assert len(told.splitlines()) == 1
    assert not (folder / "run").exists()


def test_a_key_is_sent_where_the_server_asks_for_one(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file, or from the environment; without one, or with what is none, the replay says so at once."""
    key = "2b1c4e8f0a7d4c53"
    (folder / "keys.toml").write_text(f'gold = "{key}"')
    (folder / "mosel.toml").write_text('keys = "keys.toml"')
    (folder / "key").write_text(f"{key}\n")
    (folder / "none").write_text("no key\n")
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.5,5\n")
    with starting(folder, r"^serving .* (http://\S+)", "--config", "mosel.toml") as server:
        words = ["replay", server.url, "sleepy:model", "w.csv", "-o", "run", "--quiet"]
        assert run(words) == 2
        assert "the API key is missing" in capsys.readouterr().err
        assert run([*words, "--api-key", "none"]) == 2
        assert "none: holds no API key" in capsys.readouterr().err
        assert run([*words, "--api-key", "key"]) == 0
        monkeypatch.setenv("MOSEL_API_KEY", key)
        assert run([*words[:-2], "again", "--quiet"]) == 0
    for name in ("run", "again"):
        assert json.loads((folder / name / "summary.json").read_text())["on_time"] == 1


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("http://127.0.0.1:{free}", 1, "cannot be reached"),
        ("http://127.0.0.1:{silent}", 1, "took the connection and has not answered"),
        ("ftp://127.0.0.1", 2, "expected an address as in http://127.0.0.1:8000"),
    ],
)
def test_an_address_without_a_server_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], url: str, status: int, said: str
) -> None:
    """Nobody listening, or no HTTP address at all, ends the replay before it starts."""
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.5,1\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = url.format(free=_free_port(), silent=silent.getsockname()[1])
        assert run(["replay", address, "sleepy:model", "w.csv", "-o", "run", "--wait", "0.1"]) == status
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Starts a plain HTTP server that gives the same answer to everything; returns its address."""
    with contextlib.ExitStack() as stack:

        def start(body: bytes) -> str:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=_answer_all, args=(listening, body), daemon=True).start()
            stack.callback(listening.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

        yield start


def _answer_all(listening: socket.socket, body: bytes) -> None:
    head = b"HTTP/1.1 503 Service Unavailable" if b'{"error"' in body else b"HTTP/1.1 200 OK"
    head += b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 20)
                connection.sendall(head + body)


def test_a_server_that_takes_nothing_yet_is_waited_for(
    folder: Path, capsys: pytest.CaptureFixture[str], answering: Callable[[bytes], str]
) -> None:
    """A front door that has heard of no group says so with 503: it is not ready, and no failure."""
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.5,1\n")
    body = b'{"error": "no group of workers is up; try again later"}'
    assert run(["replay", answering(body), "sleepy:model", "w.csv", "-o", "run", "--wait", "0.1"]) == 1
    assert "no group of workers is up; try again later; --wait SECONDS waits" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
def test_a_server_of_another_kind_is_told_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    answering: Callable[[bytes], str],
    body: bytes,
) -> None:
    """What does not speak the protocol is named as such before anything is sent."""
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.5,1\n")
    assert run(["replay", answering(body), "sleepy:model", "w.csv", "-o", "run"]) == 1
    assert "is this a server of the Open Inference Protocol?" in capsys.readouterr().err


def test_answers_that_cannot_be_read_fail_their_jobs(
    folder: Path, capsys: pytest.CaptureFixture[str], answering: Callable[[bytes], str]
) -> None:
    """A success without outputs is no success: the job is `failed`."""
    told: dict[str, Any] = {"name": "sleepy"}
    (folder / "w.csv").write_text("job,arrival_s,requests,accuracy_slo,latency_slo_s\na,0,1,0.5,1\n")
    assert run(["replay", answering(json.dumps(told).encode()), "sleepy:model", "w.csv", "-o", "run"]) == 1
    assert "outputs cannot be read" in capsys.readouterr().err
    assert [row.outcome for row in read_run(folder / "run").jobs] == [State.FAILED]
