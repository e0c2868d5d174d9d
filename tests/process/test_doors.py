"""How clients come in: HTTPS, and no more connections than there may be; over real sockets."""

import asyncio
import http.client
import signal
import socket
import ssl
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from mosel.core.errors import UsageError
from mosel.frontend.config import ServeConfig, parse_address
from mosel.frontend.connection import at_most
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.server import Door
from mosel.frontend.service import Service
from mosel.online.serving import ServedModel
from tests.process.serving import Server
from tests.process.test_connection import LIVE, PROFILE
from tests.process.test_server import MODEL

pytestmark = pytest.mark.process

# Made for this test, for 127.0.0.1 alone.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbmlQUhb06CqE+uJ8
1ZQMFt7OFu1awhDeUv6rMZdhe6uhRANCAATdgRZCdUyhmeWzp7ztIctIkmtyKgNC
vxGTW4S0M6siDYCTHu7c+vgmrnDFxjqxigskfabuNCjUbylNheXtj4vZ
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBkDCCATagAwIBAgIUDYNCGLSsbyXV9Vb6d+BujPO2aZIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTA2NDExMVoYDzIxMjYxMTAx
MDY0MTExWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATdgRZCdUyhmeWzp7ztIctIkmtyKgNCvxGTW4S0M6siDYCTHu7c+vgm
rnDFxjqxigskfabuNCjUbylNheXtj4vZo2QwYjAdBgNVHQ4EFgQUGGRQvJcrd1fg
cIsaR6Nk0pecRVUwHwYDVR0jBBgwFoAUGGRQvJcrd1fgcIsaR6Nk0pecRVUwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUC
IQD+tKUSC/J4eMQBzNf6pMemEBmpose1lNsOGE4ceYhvugIgJjf5To//h7U+YVha
5VfWvsMjhETGS+iiTwg9y986zDc=
-----END CERTIFICATE-----
"""


async def until_closed(state: ServerState) -> None:
    """Wait until no connection is left."""
    while state.connections:  # noqa: ASYNC110  (nothing tells when it is)
        await asyncio.sleep(0.01)


@pytest.fixture
def pem(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for path, text in zip(paths, (CERTIFICATE, KEY), strict=True):
        path.write_text(text)
    return paths


def test_with_a_certificate_the_server_speaks_https(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    """A client that trusts the certificate is answered; one that speaks plain HTTP is not."""
    (tmp_path / "mosel.toml").write_text(f'tls_certificate = "{pem[0]}"\ntls_key = "{pem[1]}"\n')
    server = Server(tmp_path, ["--config", "mosel.toml"])
    try:
        host, _, port = server.wait_until_ready().url.removeprefix("https://").partition(":")
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cadata=CERTIFICATE)
        secure = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
        secure.request("GET", "/v2/health/ready")
        assert secure.getresponse().status == 200
        secure.close()
        plain = http.client.HTTPConnection(host, int(port), timeout=30)
        plain.request("GET", "/v2/health/ready")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        plain.close()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert any(line.startswith("answered 0 jobs: served 0") for line in server.notes)
    finally:
        server.close()


def test_a_certificate_of_no_use_is_told_at_once(pem: tuple[Path, Path]) -> None:
    """A key that is missing, elsewhere, or no key."""
    certificate, key = map(str, pem)
    Door(1, certificate, key).check()
    with pytest.raises(UsageError, match="expected both"):
        Door(1, certificate).check()
    for wrong in ("nowhere.pem", certificate):
        with pytest.raises(UsageError, match="cannot be used"):
            Door(1, certificate, wrong).check()


async def test_one_connection_too_many_is_refused() -> None:
    """It is told so; those that were there go on, and one that ends makes room."""
    app = HttpApp(Service(InstantEngine(zeros(MODEL)), [ServedModel("m", MODEL, PROFILE)]))
    config = uvicorn.Config(app, http=at_most(2), ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()

    def connection() -> asyncio.Protocol:
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=state, app_state={}
        )
        return made

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        refused = await reader.read()
        writer.close()
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in refused
        for reader, writer in kept:
            writer.write(LIVE)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
        await until_closed(state)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIVE)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        await until_closed(state)


def test_only_the_loopback_interface_is_listened_on() -> None:
    """Unless the configuration says otherwise."""
    address = parse_address(ServeConfig().http)
    assert socket.gethostbyname(address.host) == "127.0.0.1"
