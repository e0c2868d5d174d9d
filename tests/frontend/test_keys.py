import json
from pathlib import Path

import pytest

from mosel.core.errors import FileError, InputError, UnauthorizedError
from mosel.core.tables import Profile
from mosel.frontend.calls import Call, of_tenant
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.keys import Keys, read_keys
from mosel.frontend.quotas import Quotas
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import WAVE, Client, Reply

GOLD, TIN = "gold-0123456789abcdef", "tin-0123456789abcdef"
KEYS = Keys({"gold": [GOLD], "tin": [TIN]})


def test_a_key_tells_the_tenant() -> None:
    """As a bearer token, or in a header of its own."""
    assert KEYS.tenant_of([(b"authorization", f"Bearer {GOLD}".encode())]) == "gold"
    assert KEYS.tenant_of([(b"accept", b"*/*"), (b"x-api-key", TIN.encode())]) == "tin"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "missing"),
        ([(b"authorization", b"Basic Z29sZA==")], "missing"),
        ([(b"authorization", f"Bearer {GOLD[:-1]}".encode())], "not known"),
        ([(b"x-api-key", b"\xff\xfe")], "not known"),
    ],
)
def test_without_a_known_key_nobody_is_let_in(headers: list[tuple[bytes, bytes]], said: str) -> None:
    """The message says whether it is missing, and how to send it."""
    with pytest.raises(UnauthorizedError, match=said):
        KEYS.tenant_of(headers)


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    """One key or several a tenant."""
    path = tmp_path / "keys.toml"
    path.write_text(f'gold = ["{GOLD}", "{GOLD}x"]\ntin = "{TIN}"\n')
    keys = read_keys(path)
    assert [keys.tenant_of([(b"x-api-key", k.encode())]) for k in (GOLD, f"{GOLD}x", TIN)] == ["gold"] * 2 + [
        "tin"
    ]


@pytest.mark.parametrize("text", ["", "gold = 'short'", "gold = 3", "= 4", f"a = '{GOLD}'\nb = '{GOLD}'"])
def test_a_file_that_holds_no_good_keys_is_an_error(tmp_path: Path, text: str) -> None:
    """It is named, and no key is repeated."""
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=r"keys\.toml") as caught:
        read_keys(path)
    assert GOLD not in str(caught.value)


def test_a_call_is_its_key_s_tenant_s() -> None:
    """It may say so or nothing, but not name another."""
    assert of_tenant(Call(()), "gold").parameters == {"tenant": "gold"}
    assert of_tenant(Call((), parameters={"tenant": "gold"}), "gold").parameters == {"tenant": "gold"}
    with pytest.raises(InputError, match="the API key is of 'gold'"):
        of_tenant(Call((), parameters={"tenant": "tin"}), "gold")


async def test_health_needs_no_key_and_all_else_does(service: Service) -> None:
    """Metadata and metrics are answered with 401 and what to send; a known key opens them."""
    app = HttpApp(service, KEYS)
    assert (await Client(app).ask("GET", "/v2/health/live")).status == 200
    for path in ("/v2", "/v2/models/m", "/metrics", "/v2/models/m/infer"):
        refused = await Client(app).ask("GET", path)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert (await Client(app).ask("GET", "/v2", headers={"X-API-Key": GOLD})).status == 200


async def test_a_job_is_of_the_tenant_of_its_key(model: Model, profile: Profile) -> None:
    """Its quota counts, whatever the call leaves out."""
    engine = InstantEngine(zeros(model))
    limited = Service(engine, [ServedModel("m", model, profile)], quotas=Quotas({"gold": 0.5}))
    app = HttpApp(limited, KEYS)
    body = (json.dumps({"inputs": [WAVE]}).encode(),)

    async def infer(key: str) -> Reply:
        return await Client(app).ask("POST", "/v2/models/m/infer", body, {"X-API-Key": key})

    assert [(await infer(GOLD)).status for _ in range(2)] == [200, 503]
    over = await infer(GOLD)
    assert "over its quota" in over.told["error"]
    assert int(over.headers["retry-after"]) >= 1
    assert (await infer(TIN)).status == 200
