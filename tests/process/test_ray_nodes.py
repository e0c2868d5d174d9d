"""A cluster of two nodes, two raylets on this machine, that runs already when the server comes."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.states import State
from mosel.core.types import Job
from mosel.online.answers import Answer
from mosel.online.engine import Engine
from mosel.online.ray_channel import RayChannel, ask_for_nodes, cluster, ray_channels
from mosel.online.serving import EngineConfig
from tests.process.test_engine import QUICK, ask, outcome, served, until

pytestmark = [
    pytest.mark.process,
    # Ray's own: it leaves sockets and files to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TWO = EngineConfig(workers=2, patience=QUICK)
STORE_BYTES = 80 << 20
"""As little as Ray allows."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes with one CPU each."""
    store = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    found = Cluster(initialize_head=True, head_node_args=store)
    found.add_node(**store)
    yield found
    found.shutdown()


async def serve_through_a_lost_node(nodes: Any) -> None:
    """Lose the second node in the middle of a load."""
    models = [served()]
    running = Engine(models, TWO, channels=ray_channels(models, TWO, embedded=False))
    await running.start()
    answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(60)]
    await until(lambda: running.snapshot().batches > 4)
    second = next(node for node in nodes.list_all_nodes() if not node.head)
    await asyncio.to_thread(nodes.remove_node, second, allow_graceful=False)
    assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
    await until(lambda: running.snapshot().lost_workers == 1)
    assert (await outcome(ask(running, 5)))[0] is State.SERVED
    nodes.add_node(num_cpus=1)
    await until(lambda: running.snapshot().workers == ("ready", "ready"))
    await running.stop()


def test_a_node_that_goes_takes_no_job_with_it(nodes: Any) -> None:
    """Its batches run on the node that is left; a node that comes takes the lost worker."""
    with cluster(nodes.address, TWO):
        assert len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2
        asyncio.run(serve_through_a_lost_node(nodes))


async def serve_while_a_node_comes(nodes: Any) -> None:
    """Add a worker that there is no room for yet, then the node for it."""
    models, config = [served()], EngineConfig(workers=2, most=3, patience=QUICK)
    channels, wish = ray_channels(models, config, embedded=False), ask_for_nodes(config)
    running = Engine(models, config, channels=channels, ask=wish)
    await running.start()
    wish(3)
    assert running.staff.grow()
    answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(30)]
    assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
    assert running.snapshot().workers.count("ready") == 2
    nodes.add_node(num_cpus=1)
    await until(lambda: running.snapshot().workers == ("ready",) * 3)
    assert running.staff.shrink()
    answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(30)]
    assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
    await until(lambda: running.snapshot().workers == ("ready",) * 2)
    await running.stop()


def test_a_worker_waits_for_its_node_and_the_others_serve(nodes: Any) -> None:
    """Added before there is room, it is ready when the node has come; it drains before it goes."""
    with cluster(nodes.address, TWO):
        asyncio.run(serve_while_a_node_comes(nodes))


async def answers_beyond_the_store(running: Engine, limit_s: float) -> list[Answer]:
    """Have twice as much under way as there is room for in the object store; return all answers.

    Outputs that come are right, and a small job after them is served.
    """
    values = np.arange(4 << 20, dtype=np.float32).reshape(4, 1 << 20) / (4 << 20)
    now_ns = running.now_ns()
    jobs = [Job(f"big{n}", "obedient", 4, 0.5, now_ns, now_ns + to_ns(60)) for n in range(8)]
    waiting = [running.post(job, {"plain": values}) for job in jobs]
    answers = []
    for answer in waiting:
        async with asyncio.timeout(limit_s):
            answers.append(await answer)
        if answers[-1].outputs is not None:
            np.testing.assert_array_equal(answers[-1].outputs["doubled"], values * 2)
    small = Job("small", "obedient", 1, 0.5, now_ns, now_ns + to_ns(limit_s + 30))
    assert (await running.submit(small, {"plain": values[:1, :3]})).receipt.outcome is State.SERVED
    return answers


async def serve_more_than_the_store_holds() -> None:
    """Have more under way than the object store holds, where it may spill."""
    models = [served("mirror")]
    running = Engine(models, TWO, channels=ray_channels(models, TWO, embedded=False))
    await running.start()
    for answer in await answers_beyond_the_store(running, limit_s=60):
        assert answer.receipt.outcome in (State.SERVED, State.FAILED)
    await running.stop()


def test_an_object_store_that_is_full_loses_no_job(nodes: Any) -> None:
    """What does not fit is spilled or fails: each job has one outcome, and later ones are served."""
    with cluster(nodes.address, TWO):
        asyncio.run(serve_more_than_the_store_holds())


async def serve_through_a_restart_of_the_head(nodes: Any) -> None:
    """Kill what the head knows the cluster by, start it anew, and lose an actor after that."""
    models = [served()]
    running = Engine(models, TWO, channels=ray_channels(models, TWO, embedded=False))
    await running.start()
    answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(30)]
    await asyncio.to_thread(nodes.head_node.kill_gcs_server)
    answers += [ask(running, 1, 2, 3, slo_s=60) for _ in range(30)]
    await asyncio.sleep(0.5)
    await asyncio.to_thread(nodes.head_node.start_gcs_server)
    answers += [ask(running, 1, 2, 3, slo_s=60) for _ in range(30)]
    assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
    channel = running.staff.channels[0]
    assert isinstance(channel, RayChannel)
    assert channel.pid is not None
    os.kill(channel.pid, signal.SIGKILL)
    await until(lambda: running.snapshot().lost_workers >= 1)
    answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(10)]
    assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
    await running.stop()


def test_a_head_that_is_restarted_takes_no_job_with_it(nodes: Any) -> None:
    """The actors that there are serve on, without it and after it."""
    with cluster(nodes.address, TWO):
        asyncio.run(serve_through_a_restart_of_the_head(nodes))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at '127\.0\.0\.1:1'"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT"),
        ("somewhere", "expected HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(address: str, says: str) -> None:
    """The message says which address was given, at once."""
    with pytest.raises(UsageError, match=says), cluster(address, TWO):
        pass
