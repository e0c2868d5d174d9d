"""A Ray cluster that has an autoscaler: nodes come when workers are added, and go when they have gone.

Ray's provider of fake nodes stands in for a cloud; the autoscaler itself is Ray's, as it is.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from mosel.core.states import State
from mosel.online.engine import Engine
from mosel.online.ray_channel import ask_for_nodes, cluster, ray_channels
from mosel.online.serving import EngineConfig
from tests.process.test_engine import QUICK, ask, outcome, served, until
from tests.process.test_ray_nodes import STORE_BYTES

pytestmark = [
    pytest.mark.process,
    # Ray's own: it leaves sockets and files to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HEAD = "f" * 51 + "00000"
ONE_TO_TWO = EngineConfig(workers=1, most=2, patience=QUICK)
START_LIMIT_S = 60


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a head with one CPU, whose autoscaler may add a node with another."""
    ip = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((ip, 0))
        place = f"{ip}:{probe.getsockname()[1]}"
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # not pytest's: Ray's sockets have paths that must be short
    (folder / "scaling.json").write_text(json.dumps(scaling(place)))
    words = [
        "--head",
        f"--port={place.rpartition(':')[2]}",
        f"--node-ip-address={ip}",
        "--num-cpus=1",
        "--block",
    ]
    words += [
        f"--autoscaling-config={folder / 'scaling.json'}",
        f"--temp-dir={folder}",
        "--include-dashboard=false",
    ]
    words += [f"--object-store-memory={STORE_BYTES}"]
    environ = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    }
    environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_autoscaler_v2": "0"}
    # A cluster that was started inside this process has left it with a mode; both ends must have the same.
    environ["RAY_AUTH_MODE"] = os.environ.get("RAY_AUTH_MODE", "disabled")
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_up(place)
        yield place
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(3)
        os.killpg(head.pid, signal.SIGKILL)  # it waits for its nodes, which are no real ones
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def scaling(place: str) -> dict[str, object]:
    """Return what the autoscaler is told: one kind of node, and how soon an idle one goes."""
    node = {"resources": {"CPU": 1, "object_store_memory": STORE_BYTES}, "node_config": {}}
    provider = {"type": "fake_multinode", "gcs_address": place, "head_node_id": HEAD, "use_node_id_as_ip": True}
    kinds = {
        "ray.head.default": {**node, "max_workers": 0},
        "more": {**node, "min_workers": 0, "max_workers": 1},
    }
    nothing: dict[str, object] = {
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    nothing |= {f"{name}_commands": [] for name in lists}
    nothing |= {name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")}
    return {
        "cluster_name": "fake",
        "max_workers": 1,
        "provider": {**provider, "disable_node_updaters": True, "disable_launch_config_check": True},
        "available_node_types": kinds,
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.03,
        **nothing,
    }


def wait_until_up(place: str) -> None:
    """Return when something listens there."""
    host, _, port = place.rpartition(":")
    end_s = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert time.monotonic() < end_s, "Ray does not start"
            time.sleep(0.2)


def nodes() -> int:
    """Return how many nodes there are."""
    return sum(node["Alive"] for node in ray.nodes())


async def serve_while_nodes_come_and_go() -> None:
    """Add a worker that there is no node for, and remove it again."""
    models = [served()]
    wish = ask_for_nodes(ONE_TO_TWO)
    channels = ray_channels(models, ONE_TO_TWO, embedded=False)
    running = Engine(models, ONE_TO_TWO, channels=channels, ask=wish)
    await until(lambda: ray.cluster_resources().get("CPU") == 1)  # the head's node comes after its port
    await running.start()
    assert nodes() == 1
    wish(2)
    assert running.staff.grow()
    answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(30)]
    assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
    await until(lambda: running.snapshot().workers == ("ready", "ready"))
    assert nodes() == 2
    wish(1)
    assert running.staff.shrink()
    await until(lambda: nodes() == 1)
    assert (await outcome(ask(running, 5)))[0] is State.SERVED
    await running.stop()


def test_ray_s_autoscaler_brings_a_node_and_takes_it_away(address: str) -> None:
    """Asked for two workers' devices it starts a node; asked for one's it ends the node that is idle."""
    with cluster(address, ONE_TO_TWO):
        asyncio.run(serve_while_nodes_come_and_go())
