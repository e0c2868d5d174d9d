"""The dashboard of a real server in a real browser."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosel.core.states import OUTCOMES
from tests.process.browser import Page, tab
from tests.process.serving import RAISES, Server, tensor, tokens
from tests.process.test_serve import metric

pytestmark = pytest.mark.process

LIMIT_S = 60
KEY = "2b1c4e8f0a7d4c53"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready."""
    running = Server(tmp_path_factory.mktemp("dashboard"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


async def test_the_page_shows_what_the_metrics_say(server: Server, tmp_path: Path) -> None:
    """On a laptop and a phone the console stays empty, nothing overflows, and values agree."""
    async with tab(tmp_path) as page:
        await page.open(server.url)
        await shown(page, "status-text", "ready")
        assert await page.evaluate("document.getElementById('no-decisions').hidden") is False
        await asyncio.to_thread(send, server)
        await shown(page, "total-arrived", "7")
        for outcome in OUTCOMES:
            wanted = metric(server, f'mosel_requests_total{{model="small",outcome="{outcome}"}}')
            await shown(page, f"total-{outcome}", str(int(wanted)))
        assert await text(page, "queued") == str(int(metric(server, "mosel_queued_jobs"))) == "0"
        told = await page.evaluate("document.getElementById('decisions').innerText")
        assert "text+sound" in told
        assert "most accurate" in told
        assert "model failed" in told
        assert "worker 0 ready" in await text(page, "workers")
        await page.open(server.url, 390, 844, dark=True)
        await shown(page, "total-arrived", "7")
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        assert await page.evaluate("document.querySelectorAll('.chart svg').length") == 6
        assert page.complaints == []


async def test_with_keys_the_page_asks_for_one(tmp_path: Path) -> None:
    """It shows nothing before it has a key that is known, and keeps it nowhere but in memory."""
    (tmp_path / "keys.toml").write_text(f'gold = "{KEY}"')
    (tmp_path / "mosel.toml").write_text('keys = "keys.toml"')
    server = Server(tmp_path, ["--config", "mosel.toml"])
    try:
        server.wait_until_ready()
        async with tab(tmp_path / "browser") as page:
            await page.open(server.url)
            await shown(page, "status-text", "sign in")
            assert page.complaints == []
            assert await page.evaluate("document.querySelector('main').hidden")
            await sign_in(page, "wrong" * 4)
            await shown(page, "key-said", "The server does not know this key.")
            await sign_in(page, KEY)
            await shown(page, "status-text", "ready")
            assert not await page.evaluate("document.querySelector('main').hidden")
            stored = "localStorage.length + sessionStorage.length + document.cookie.length"
            assert await page.evaluate(stored) == 0
            assert [one for one in page.complaints if "401" not in one] == []
            await page.open(server.url, 390, 844)
            await shown(page, "status-text", "sign in")
            assert await page.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        server.close()


async def sign_in(page: Page, key: str) -> None:
    """Type a key and press the button."""
    await page.evaluate(f"document.getElementById('key').value = '{key}'")
    await page.evaluate("document.querySelector('#sign-in button').click()")


def send(server: Server) -> None:
    """Send three jobs of two requests, and one that fails."""
    client = server.client()
    try:
        for _ in range(3):
            wave = tensor("wave", tokens(1, 2, 2)[:, :3].copy())
            client.infer("small", [tensor("tokens", tokens(1, 0, 2)), wave])
        with pytest.raises(Exception, match="no such number"):
            client.infer("small", [tensor("tokens", tokens(RAISES))])
    finally:
        client.close()


async def text(page: Page, name: str) -> Any:
    """Return what an element shows."""
    return await page.evaluate(f"document.getElementById('{name}')?.textContent")


async def shown(page: Page, name: str, wanted: str) -> None:
    """Wait until an element shows `wanted`."""
    async with asyncio.timeout(LIMIT_S):
        while await text(page, name) != wanted:  # noqa: ASYNC110  - it is a page that is waited for
            await asyncio.sleep(0.05)
