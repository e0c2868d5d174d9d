"""A headless Chromium that tests look at pages with, through its DevTools protocol."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

START_LIMIT_S = 60
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def chromium() -> str:
    """Return where Chromium is; skip the test where there is none, except in continuous integration."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        assert not os.environ.get("CI"), "no chromium here; .ci/run installs it"
        pytest.skip("no chromium on this machine: apt-get install chromium")
    return found


class Page:
    """One tab; `complaints` is what its console said of errors and warnings, and what it could not load."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def call(self, method: str, **parameters: Any) -> Any:
        """Return what a method of the protocol returns."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(self._answers[number], START_LIMIT_S)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def open(self, url: str, width: int = 1440, height: int = 900, *, dark: bool = False) -> None:
        """Load a page on a screen of this size and colour."""
        for domain in ("Runtime", "Log", "Page"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[feature])
        await self.call("Page.navigate", url=url)

    async def listen(self) -> None:
        """Take in what the browser says."""
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                answer = self._answers.pop(told["id"])
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]))
                else:
                    answer.set_result(told["result"])
            elif told["method"] == "Runtime.exceptionThrown" or (
                told["method"] == "Runtime.consoleAPICalled" and told["params"]["type"] in ("error", "warning")
            ):
                self.complaints.append(json.dumps(told["params"]))
            elif told["method"] == "Log.entryAdded":
                self.complaints.append(told["params"]["entry"]["text"])


@contextlib.asynccontextmanager
async def tab(folder: Path) -> AsyncIterator[Page]:
    """Start a browser that keeps what it has in `folder`, and yield its tab."""
    browser = await asyncio.create_subprocess_exec(
        chromium(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = await asyncio.wait_for(_port(browser), START_LIMIT_S)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                pages = [one for one in await reply.json() if one["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                yield page
                listening.cancel()
    finally:
        browser.kill()
        await browser.communicate()


async def _port(browser: asyncio.subprocess.Process) -> int:
    assert browser.stderr is not None
    said = ""
    while line := await browser.stderr.readline():
        said += line.decode()
        if found := re.search(r"listening on ws://[^:]+:(\d+)/", said):
            return int(found[1])
    raise AssertionError(f"chromium did not start:\n{said}")
