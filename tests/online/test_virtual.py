import asyncio

import pytest

from mosel.core.clock import NS_PER_S, to_s
from mosel.online import virtual


def loop() -> virtual.VirtualLoop:
    """Return the virtual loop that runs this."""
    found = asyncio.get_running_loop()
    assert isinstance(found, virtual.VirtualLoop)
    return found


def test_sleeping_moves_the_clock_and_nothing_else() -> None:
    """A day's sleep ends a day later by the loop's clock; the suite's own time limit says that it took none."""

    async def main() -> int:
        await asyncio.sleep(86_400 * 3)
        return loop().now_ns()

    assert virtual.run(main()) == 3 * 86_400 * NS_PER_S


def test_timers_go_off_in_order_and_on_their_nanosecond() -> None:
    """Timers 1 ns apart see different times, those of one nanosecond the same turn."""
    seen: list[tuple[int, int]] = []

    async def main() -> None:
        turn = 0

        def note(_: int) -> None:
            seen.append((loop().now_ns(), turn))

        at_ns = 123_456_789_123
        loop().call_at(to_s(at_ns + 1), note, 3)
        loop().call_at(to_s(at_ns), note, 1)
        loop().call_later(to_s(at_ns - 1) + 1e-9, note, 2)
        while loop().now_ns() < at_ns + 1:
            turn += 1
            await asyncio.sleep(to_s(at_ns) if turn == 1 else 1e-9)

    virtual.run(main())
    assert [at for at, _ in seen] == [123_456_789_123, 123_456_789_123, 123_456_789_124]
    assert seen[0][1] == seen[1][1]


def test_a_standstill_is_an_error_and_no_hang() -> None:
    """Where nothing could ever happen again the loop says so."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="virtual time stands still"):
        virtual.run(main())


def test_time_does_not_pass_while_something_can_be_done() -> None:
    """Callbacks without a delay all run at the time at which they were made."""

    async def main() -> int:
        for _ in range(100):
            await asyncio.sleep(0)
        return loop().now_ns()

    assert virtual.run(main()) == 0


def test_timers_of_one_nanosecond_go_off_in_the_order_in_which_they_were_set() -> None:
    """However many there are: a heap alone would shuffle them."""
    seen: list[int] = []

    async def main() -> None:
        for number in range(200):
            loop().call_at((7, 5, 6)[number % 3], seen.append, number)
        await asyncio.sleep(10)

    virtual.run(main())
    assert seen == sorted(range(200), key=lambda number: ((7, 5, 6)[number % 3], number))
