"""Groups behind a front door whose workers are actors of one cluster, which the server itself starts."""

import json
import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mosel.evaluation.chaos.server import descendants
from tests.process.serving import Server
from tests.process.test_serve import until

pytestmark = pytest.mark.process

JOB = {"inputs": [{"name": "wave", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


@pytest.mark.timeout(180)
def test_groups_share_a_cluster_that_ends_with_the_server(tmp_path: Path) -> None:
    """Each group has its actor, both serve; at the end no process of Ray's is left either."""
    words = ("--workers", "2", "--groups", "2", "--front-doors", "1", "--engine", "ray")
    server = Server(tmp_path, words)
    try:
        server.wait_until_ready()
        every = descendants(server.process.pid)
        with ThreadPoolExecutor(4) as pool:
            receipts = list(pool.map(lambda _: infer(server), range(16)))
        assert {receipt["outcome"] for receipt in receipts} == {"served"}
        batches = [batch for receipt in receipts for batch in json.loads(receipt["batches"])]
        assert {batch["worker"] for batch in batches} == {0, 1}
        names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in every]
        assert sum(b"gcs_server" in name for name in names) == 1
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert (
            "answered 16 jobs: served 16, late 0, dropped 0, rejected 0, failed 0; refused 0 calls"
            in server.notes
        )
        until(lambda: not [pid for pid in every if Path(f"/proc/{pid}").exists()])
    finally:
        server.close()


def infer(server: Server) -> dict[str, Any]:
    """Send a job and return its receipt."""
    raw = json.dumps(JOB).encode()
    with urllib.request.urlopen(f"{server.url}/v2/models/small/infer", raw, timeout=60) as reply:
        found: dict[str, Any] = json.load(reply)["parameters"]
    return found
