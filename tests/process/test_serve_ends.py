"""How a server ends, and what it does where it has no profile; a process for each test."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.process.serving import SLEEPS, Server

pytestmark = pytest.mark.process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is ready."""
    running = Server(tmp_path)
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def infer(server: Server, sleep_s: float) -> tuple[int, str]:
    """Send a job that sleeps and return its status and outcome."""
    try:
        with post(server, sleep_s) as reply:
            return reply.status, json.load(reply)["parameters"]["outcome"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["parameters"]["outcome"]


def wait_for_batch(server: Server) -> None:
    """Wait until a job is with the engine."""
    while True:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as reply:
            if b"mosel_queued_jobs 1.0" in reply.read():
                return


def test_sigterm_drains(server: Server) -> None:
    """After SIGTERM new jobs are refused, the job in flight is answered, and the exit status is 0."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer, server, 3)
        wait_for_batch(server)
        for _ in range(2):  # as a wrapper does that passes on what its whole process group has got
            server.signal(signal.SIGTERM)
        wait_until_not_ready(server)
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(server, sleep_s=0)
        with caught.value as refused:
            assert refused.code == 503
            assert refused.headers["Retry-After"] == "1"
            assert "draining" in json.load(refused)["error"]
        assert running.result(60) == (200, "served")
    assert server.wait() == 0
    assert server.notes[-2].startswith("draining: accepted jobs are answered, for 30 s at most")
    assert server.notes[-1].startswith("answered 1 jobs: served 1, late 0")
    with pytest.raises(urllib.error.URLError):
        post(server, sleep_s=0)


def test_second_signal_ends_at_once(server: Server) -> None:
    """At the second signal the server ends, long before the job in flight would; its client is told."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer, server, 300)
        wait_for_batch(server)
        server.signal(signal.SIGINT)
        wait_until_not_ready(server)
        # One that follows too soon is taken for the first, passed on.
        while not server.notes[-1].startswith("ending at once"):
            server.signal(signal.SIGINT)
            time.sleep(0.1)
        assert server.wait() == 0
        assert running.result(60) == (503, "dropped")


def test_quick_profile(tmp_path: Path) -> None:
    """Without a profile a quick one is measured first, said aloud, kept, and used the next time."""
    for found in (False, True):
        running = Server(tmp_path, profiled=False)
        try:
            running.wait_until_ready()
            said = [note for note in running.notes if "measuring a quick one first" in note]
            assert bool(said) != found
            running.signal(signal.SIGINT)
            assert running.wait() == 0
        finally:
            running.close()
        assert len(list((tmp_path / "cache").rglob("*.json"))) == 1


def wait_until_not_ready(server: Server) -> None:
    """Wait until the server says that it takes no jobs."""
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/v2/health/ready", timeout=30):
                continue
        except urllib.error.HTTPError as error:
            with error:
                return


def post(server: Server, sleep_s: float) -> Any:
    """Send a job that sleeps and return the reply."""
    tokens = {"name": "tokens", "datatype": "FP32", "shape": [1, 4], "data": [SLEEPS, sleep_s, 0, 0]}
    body = json.dumps({"inputs": [tokens]}).encode()
    return urllib.request.urlopen(f"{server.url}/v2/models/small/infer", body, timeout=60)
