import asyncio
from dataclasses import dataclass, field

import numpy as np

from mosel.core.types import Batch, Part
from mosel.online import virtual
from mosel.online.channel import News, Outputs, ProfiledChannel, Work, WorkerState, finished
from mosel.online.events import BatchFailed, Corrupt, Finished, WorkerLost, WorkerReady
from mosel.online.serving import EngineConfig, ServedModel, start_message
from mosel.online.thread_channel import ThreadChannel
from mosel.online.wire import Undone
from tests.conformance.worlds import inputs, model, profile

MS = 1_000_000


def batch(number: int) -> Batch:
    """Return a batch of two requests of one job."""
    return Batch(number, 0, "m", "audio", 0, (Part("j", (0, 1)),), MS)


def work(number: int) -> Work:
    """Return a batch with its tensors."""
    return Work(batch(number), ("audio",), "float32", {"wave": [inputs(2)["wave"]]})


@dataclass
class Told:
    """Writes down what a channel reports, and when."""

    news: list[tuple[int, News]] = field(default_factory=list)
    outputs: list[Outputs | None] = field(default_factory=list)

    def __call__(self, news: News, outputs: Outputs | None = None, /) -> None:
        """Write it down."""
        loop = asyncio.get_running_loop()
        at_ns = loop.now_ns() if isinstance(loop, virtual.VirtualLoop) else 0
        self.news.append((at_ns, news))
        self.outputs.append(outputs)


def takes_3_ms(of: Batch) -> tuple[int, Finished | BatchFailed]:
    """Take 3 ms; every third batch fails."""
    return 3 * MS, BatchFailed(of.id, "no") if of.id % 3 == 2 else Finished(of.id, 3 * MS)


def test_a_waiting_batch_starts_when_the_one_in_hand_is_done() -> None:
    """Batches sent together finish one after the other, each after its own time."""

    async def main() -> Told:
        told = Told()
        channel = ProfiledChannel(0, told, takes_3_ms)
        await channel.start()
        channel.send(work(1))
        channel.send(work(2))
        await asyncio.sleep(1)
        return told

    told = virtual.run(main())
    assert told.news == [
        (0, WorkerReady(0)),
        (3 * MS, Finished(1, 3 * MS)),
        (6 * MS, BatchFailed(2, "no")),
    ]


def test_a_lost_worker_reports_nothing_of_what_it_held() -> None:
    """Only the loss is told; what is sent before the worker is back is part of it."""

    async def main() -> Told:
        told = Told()
        channel = ProfiledChannel(0, told, takes_3_ms)
        await channel.start()
        channel.send(work(0))
        channel.send(work(1))
        await asyncio.sleep(0.001)
        channel.lose("killed")
        channel.send(work(3))
        await asyncio.sleep(1)
        channel.recover()
        channel.send(work(4))
        await asyncio.sleep(1)
        await channel.close()
        return told

    told = virtual.run(main())
    assert [news for _, news in told.news[1:]] == [
        WorkerLost(0, "killed"),
        WorkerReady(0),
        Finished(4, 3 * MS),
    ]


def test_an_undone_part_is_undone_in_each_of_its_requests() -> None:
    """The event names every request of the part, and none of another."""
    mixed = Batch(5, 0, "m", "audio", 0, (Part("a", (0,)), Part("b", (1, 3))), MS)
    assert finished(mixed, 7, [Undone(1, "audio", "noise")]) == Finished(
        5, 7, (Corrupt("b", 1, "audio", "noise"), Corrupt("b", 3, "audio", "noise"))
    )


async def test_a_thread_runs_the_model() -> None:
    """The outputs are the model's, and the time is what the runner took."""
    served = ServedModel("tests.conformance.worlds:served", model(), profile())
    told, answered = Told(), asyncio.Event()

    def report(news: News, outputs: Outputs | None = None, /) -> None:
        kept = {name: array.copy() for name, array in outputs.items()} if outputs else None
        told(news, kept)
        if isinstance(news, Finished):
            answered.set()

    channel = ThreadChannel(report, start_message(0, [served], EngineConfig()))
    await channel.start()
    assert channel.state is WorkerState.READY
    channel.send(work(9))
    async with asyncio.timeout(20):
        await answered.wait()
    await channel.close()
    [(_, ready), (_, done)] = told.news
    assert ready == WorkerReady(0)
    assert isinstance(done, Finished)
    assert (done.batch, done.undone) == (9, ())
    assert done.took_ns > 0
    outputs = told.outputs[1]
    assert outputs is not None
    np.testing.assert_array_equal(outputs["scores"], [[0.0], [1.0]])
