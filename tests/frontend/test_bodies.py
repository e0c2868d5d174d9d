import asyncio
from typing import Any

import pytest

from mosel.core.errors import RefusedError, TooLargeError
from mosel.frontend.bodies import Bodies, ClientGoneError, Receive
from mosel.frontend.checks import Limits


def pieces(*parts: bytes, gone: bool = False) -> Receive:
    """A request whose body comes in these pieces, or whose client goes away after them."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": gone or place < len(parts) - 1}
        for place, part in enumerate(parts)
    ]
    messages.append({"type": "http.disconnect"})
    coming = iter(messages)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return next(coming)

    return receive


async def test_a_body_in_pieces_is_joined() -> None:
    """The pieces come back as one, however they were cut."""
    assert await Bodies(Limits()).read(pieces(b"ab", b"", b"c"), 3) == b"abc"
    assert await Bodies(Limits()).read(pieces(b""), 0) == b""


@pytest.mark.parametrize(("parts", "told"), [((b"x",), 5), ((b"xxx", b"xx"), 0), ((b"xxxxx",), 0)])
async def test_one_body_has_a_limit(parts: tuple[bytes, ...], told: int) -> None:
    """A body over the limit is refused by what is told of it, or as soon as it passes the limit."""
    with pytest.raises(TooLargeError, match="limit of 4 bytes"):
        await Bodies(Limits(body_bytes=4)).read(pieces(*parts), told)


async def test_all_bodies_together_have_a_limit() -> None:
    """What is held counts until it is released; a refused body itself leaves nothing behind."""
    bodies = Bodies(Limits(held_bytes=10))
    held = await bodies.read(pieces(b"123456"), 6)
    for told in (5, 0):
        with pytest.raises(RefusedError, match="holds 6 bytes of requests; try again later"):
            await bodies.read(pieces(b"12345"), told)
    with pytest.raises(RefusedError):
        await bodies.read(pieces(b"12", b"345"), 0)
    bodies.release(len(held))
    assert len(await bodies.read(pieces(b"12345", b"12345"), 0)) == 10


async def test_a_client_that_goes_away_holds_nothing() -> None:
    """What came of a body before its client went away is held no more."""
    bodies = Bodies(Limits(held_bytes=4))
    for _ in range(3):
        with pytest.raises(ClientGoneError):
            await bodies.read(pieces(b"1234", gone=True), 4)
    assert await bodies.read(pieces(b"1234"), 4) == b"1234"
