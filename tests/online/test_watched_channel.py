import asyncio

from mosel.online import virtual, wire
from mosel.online.channel import Outputs, Work, WorkerState
from mosel.online.watched_channel import Patience, WatchedChannel


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
