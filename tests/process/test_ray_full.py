"""A Ray cluster whose object store is full, and whose disk counts as full, too: nothing is spilled."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from mosel.core.states import State
from mosel.online.engine import Engine
from mosel.online.ray_channel import cluster, ray_channels
from mosel.online.serving import EngineConfig
from tests.process.test_engine import QUICK, served
from tests.process.test_ray_nodes import STORE_BYTES, answers_beyond_the_store

pytestmark = [
    pytest.mark.process,
    # Ray's own: it leaves sockets and files to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TWO = EngineConfig(workers=2, patience=QUICK)


@pytest.fixture
def full() -> Iterator[Any]:
    """A node that takes its disk to be full, however empty it is."""
    none = {"local_fs_capacity_threshold": 1e-9}
    args = {"num_cpus": 2, "object_store_memory": STORE_BYTES, "_system_config": none}
    found = Cluster(initialize_head=True, head_node_args=args)
    yield found
    found.shutdown()


async def serve_what_there_is_no_room_for() -> tuple[Counter[State], str]:
    """Have more under way than the store holds; returns what became of the jobs, and why one failed."""
    models = [served("mirror")]
    running = Engine(models, TWO, channels=ray_channels(models, TWO, embedded=False))
    await running.start()
    answers = await answers_beyond_the_store(running, limit_s=90)
    assert running.snapshot().failed_batches
    await running.stop()
    failures = [answer.receipt.detail for answer in answers if answer.outputs is None]
    return Counter(answer.receipt.outcome for answer in answers), failures[-1] if failures else ""


def test_an_object_store_that_cannot_spill_loses_no_job(full: Any) -> None:
    """Each job has one outcome: it is served, or its batches failed for want of room; later ones are served."""
    with cluster(full.address, TWO):
        outcomes, why = asyncio.run(serve_what_there_is_no_room_for())
    assert sum(outcomes.values()) == 8
    assert set(outcomes) <= {State.SERVED, State.FAILED}
    assert outcomes[State.FAILED]
    assert "disk" in why or "room" in why
