"""A front door's connections to a group, against a group that answers as told."""

import asyncio
from pathlib import Path

from mosel.frontend.doors.links import Links

REPLY = (
    b"HTTP/1.1 503 Service Unavailable\r\ndate: Wed, 25 Nov 2026 13:21:41 GMT\r\nconnection: close\r\n"
    b"Retry-After: 1\r\ncontent-length: 2\r\n\r\n{}"
)


async def test_what_a_group_says_of_its_connection_is_not_handed_on(tmp_path: Path) -> None:
    """Date and connection are the door's own to say, so that no reply has them twice; all else goes on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REPLY)
        await writer.drain()
        writer.close()

    path = tmp_path / "group"
    async with await asyncio.start_unix_server(answer, path):
        links = Links(str(path))
        reply = await links.ask(b"GET /v2 HTTP/1.1\r\nhost: group\r\n\r\n", b"")
        links.close()
    assert (reply.status, reply.content) == (503, b"{}")
    assert reply.headers == [(b"retry-after", b"1"), (b"content-length", b"2")]
