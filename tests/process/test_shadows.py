"""Shadow runs on a real server: cheaper answers beside those of all modalities."""

import json
from pathlib import Path
from urllib.request import urlopen

import msgspec
import numpy as np
import pytest

from mosel.client import Client
from mosel.core.tables import write_profile
from tests.process import serving
from tests.process.serving import Server, make_profile, tokens
from tests.process.test_serve import metric, until

pytestmark = pytest.mark.process

AGREEMENT = "agreement=lambda one, other: (one['total'] == other['total']).astype(float),"


def shadows(server: Server) -> tuple[int, float]:
    """Return how many answers by sound alone were compared, and their mean agreement."""
    with urlopen(f"{server.url}/v2/models/small/accuracy") as reply:
        found = {one["mode"]: one["agreement"] for one in json.load(reply)["modes"]}["sound"]
    return (found["shadows"], found["mean"]) if found else (0, 0.0)


def test_answers_are_compared_while_the_server_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that had no time for all modalities is; it counts once, its shadow only among batches."""
    monkeypatch.setattr(serving, "SOURCE", serving.SOURCE.replace("score=", f"{AGREEMENT} score="))
    (tmp_path / "mosel.toml").write_text("shadow_share = 1.0")
    *cheap, best = make_profile().modes
    slow = msgspec.structs.replace(best, latency_s=[0.2, 0.4], latency_p99_s=[0.2, 0.4])
    write_profile(make_profile(modes=(*cheap, slow)), tmp_path / "profile.json")
    words = ["--config", "mosel.toml", "--profile", "profile.json"]
    server = Server(tmp_path, words, profiled=False)
    try:
        server.wait_until_ready()
        with Client(server.url, "small") as client:
            inputs = {"tokens": tokens(5), "wave": np.zeros((1, 2), "float32")}
            answer = client.infer(inputs, latency_slo_ms=190)
        assert answer.receipt["modes"] == "sound:1"
        until(lambda: shadows(server) == (1, 0.0))
        assert metric(server, 'mosel_agreement_shadows{mode="sound",model="small"}') == 1
        assert metric(server, 'mosel_jobs_total{model="small",outcome="served"}') == 1
        assert metric(server, "mosel_batches_total") == 2
    finally:
        server.close()
