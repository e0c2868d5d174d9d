import asyncio

import pytest

from mosel.core.types import Batch, Part
from mosel.online import virtual, wire
from mosel.online.channel import Outputs, Work, WorkerState
from mosel.online.watched_channel import HangWatch, Patience, WatchedChannel


class Stuck:
    """A worker that never becomes ready, and takes a second to end."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_gone = False

    async def begin(self) -> wire.StartFailed | None:
        """Wait for ever."""
        await asyncio.Event().wait()
        return None

    def send(self, work: Work) -> None:
        """It is never ready."""
        raise AssertionError(work)

    def forget(self, job: str) -> None:
        """Have nothing to forget."""

    async def end(self, limit_s: float) -> None:
        """Take a second."""
        del limit_s
        await asyncio.sleep(1)
        self.is_gone = True


def unheard(_news: object, _outputs: Outputs | None = None, /) -> None:
    """Hear nothing."""


def test_a_stop_that_comes_while_a_stuck_worker_is_ended_waits_for_its_end() -> None:
    """Closing, twice even, before its start, during it and at any moment of its end leaves no worker behind."""

    async def left_over(after_s: float) -> list[Stuck]:
        lives: list[Stuck] = []

        def live() -> Stuck:
            lives.append(Stuck())
            return lives[-1]

        channel = WatchedChannel(0, unheard, Patience(start_limit_s=2.0, attempts=2), live)
        starting = asyncio.create_task(channel.start())
        await asyncio.sleep(after_s)
        closing = asyncio.create_task(channel.close())
        await asyncio.sleep(0.1)
        closing.cancel()
        await channel.close()
        assert channel.state is WorkerState.LOST
        starting.cancel()
        await asyncio.gather(starting, closing, return_exceptions=True)
        return [one for one in lives if not one.is_gone]

    for after_s in (0.0, 1.0, 2.05, 2.5, 2.95, 3.1, 4.0, 5.5):
        assert not virtual.run(left_over(after_s))


def batch(number: int) -> Batch:
    """Return a batch whose limit is `Patience.hang_least_s`."""
    return Batch(number, 0, "m", "a", 0, (Part("j", (0,)),), 1_000_000)


@pytest.mark.parametrize(
    ("answered_s", "killed"),
    [
        ([], [(10.0, 0)]),
        ([4.0], [(14.0, 1)]),
        ([4.0, 8.0, 12.0], [(22.0, 3)]),
        ([9.0, 18.0], [(28.0, 2)]),
    ],
)
def test_a_batch_that_is_not_answered_within_its_limit_is_the_end_of_its_worker(
    answered_s: list[float], killed: list[tuple[float, int]]
) -> None:
    """It counts from when it came to the head of what the worker holds, however many were answered before."""
    found: list[tuple[float, int]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def kill(why: str) -> None:
            found.append((round(loop.time() - began_s, 2), int(why.split()[1])))

        watch = HangWatch(Patience(hang_least_s=10.0), kill)
        began_s = loop.time()
        watch.watch(batch(0))
        for number, at_s in enumerate(answered_s):
            await asyncio.sleep(began_s + at_s - loop.time())
            watch.watch(batch(number + 1))
        await asyncio.sleep(30)
        watch.end()

    virtual.run(main())
    assert found == killed


def test_a_worker_that_holds_nothing_does_not_hang() -> None:
    """Once its last batch is answered it may wait for the next for ever; so may one that has ended."""
    found: list[str] = []

    async def main() -> None:
        watch = HangWatch(Patience(hang_least_s=10.0), found.append)
        watch.watch(batch(0))
        await asyncio.sleep(1)
        watch.watch(None)
        await asyncio.sleep(60)
        watch.watch(batch(1))
        watch.end()
        await asyncio.sleep(60)

    virtual.run(main())
    assert not found
