import base64
import hashlib
import re

from mosel.frontend.service import Service
from tests.frontend.asgi_client import WAVE, get, infer


async def test_the_page_needs_nothing_from_elsewhere(service: Service) -> None:
    """It is one file whose policy lets its own script and style run, and no other."""
    reply = await get(service, "/")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    text = reply.body.decode()
    policy = reply.headers["content-security-policy"]
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|innerHTML| style=", text)


async def test_the_state_counts_jobs(service: Service) -> None:
    """What was sent is in the totals, the seconds and the decisions."""
    for _ in range(3):
        assert (await infer(service, {"inputs": [WAVE]})).status == 200
    told = (await get(service, "/dashboard/state")).told
    assert told["ready"]
    assert told["arrived"] == told["ended"]["served"] == 3
    assert len(told["decisions"]) == 3
    assert sum(row[told["columns"].index("arrived")] for row in told["seconds"]) == 3
    assert told["modes"] == {"m": ["text", "sound", "text+sound"]}
