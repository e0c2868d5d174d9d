"""A server whose workers hold models as they were placed, and give them up for others as the load changes."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mosel.cli import run
from mosel.core.tables import write_profile
from tests.process.serving import SOURCE, Server, make_profile
from tests.process.test_groups import call
from tests.process.test_serve import until

pytestmark = pytest.mark.process

GIB = 1 << 30
OTHER = SOURCE + '\n\nother = Model(**{**{f: getattr(model, f) for f in model.__slots__}, "name": "other"})\n'


def profiled(folder: Path, name: str) -> None:
    """Write the profile of a model that takes 3 GiB, and is said to be slow."""
    found = make_profile(model=name)
    took = {"latency_s": [0.02, 0.04], "latency_p99_s": [0.02, 0.04], "memory_bytes": [3 * GIB, 3 * GIB]}
    modes = tuple(msgspec.structs.replace(mode, **took) for mode in found.modes)
    write_profile(msgspec.structs.replace(found, modes=modes), folder / f"{name}.json")


def workload(folder: Path, often: str, seldom: str) -> None:
    """Write a workload of which nearly all is of one model."""
    lines = ["job,arrival_s,requests,accuracy_slo,latency_slo_s,model"]
    lines += [f"j{i},{i / 100},1,0.5,0.5,{seldom if i % 10 == 0 else often}" for i in range(2000)]
    (folder / "w.csv").write_text("\n".join(lines) + "\n")


def test_models_move_and_no_job_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both models are served while a worker that had the one is loaded with the other."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_models.py").write_text(OTHER)
    for name in ("small", "other"):
        profiled(tmp_path, name)
    workload(tmp_path, "small", "other")
    device = make_profile().device.name
    place = [
        "place",
        "small.json",
        "other.json",
        "w.csv",
        "--device",
        f"{device}=3:4",
        "-o",
        "placed",
        "--quiet",
    ]
    assert run(place) == 0
    placed = json.loads(Path("placed/placement.json").read_text())
    assert Counter(worker["variants"][0] for worker in placed["workers"])["small@float32"] == 2
    Path("mosel.toml").write_text("placement_every_s = 0.5\n")
    words = [
        "two_models:other",
        "--profile",
        "small.json",
        "--profile",
        "other.json",
        "--config",
        "mosel.toml",
        "--log-level",
        "info",
    ]
    server = Server(tmp_path, [*words, "--placement", "placed/placement.json"], profiled=False)
    try:
        server.wait_until_ready()
        assert "3 workers" in server.notes[-1]
        replies = Counter[tuple[str, int]]()
        wave = {"name": "wave", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}

        def send(number: int) -> tuple[str, int]:
            # So seldom that one worker is enough for it, however fast calls come.
            model = "small" if number % 50 == 0 else "other"
            return model, call(server, f"/v2/models/{model}/infer", {"inputs": [wave]})[0]

        def moved() -> bool:
            replies.update(pool.map(send, range(100)))
            return any("other" in each and "small" not in each for each in moves(server))

        with ThreadPoolExecutor(8) as pool:
            until(moved, 60)
            replies.update(pool.map(send, range(100)))
        assert {status for _, status in replies} == {200}
        assert {model for model, _ in replies} == {"small", "other"}
    finally:
        server.close()


def moves(server: Server) -> list[str]:
    """Return what the server has noted of moves."""
    return [note for note in server.notes if "is loaded with" in note]


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        ({"format": "mosel.placement/9"}, [], "format is 'mosel.placement/9'; expected 'mosel.placement/1'"),
        ({"workers": []}, [], "has no workers"),
        (
            {"rooms": 1},
            [],
            "expected the placement.json of `mosel place`: Object contains unknown field `rooms`",
        ),
        ({}, ["--workers", "3"], "is of 1 workers; leave out --workers 3"),
        ({}, ["--front-doors", "1"], "no front doors beside"),
        ({"device": "a moon"}, [], "the placement is for device 'a moon', the profiles are of"),
        ({"variants": ["large@float32"]}, [], "large@float32 is placed, but no profile is of it"),
    ],
)
def test_a_placement_of_no_use_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    words: list[str],
    says: str,
) -> None:
    """In one line, with what was expected."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_model.py").write_text(SOURCE)
    profiled(tmp_path, "small")
    device = make_profile().device.name
    worker = {"device": device, "variants": ["small@float32"], "profiles": ["small-0.json"]}
    worker |= {key: value for key, value in change.items() if key in worker}
    placed = {"format": "mosel.placement/1", "effective_accuracy": 0.9, "room": 0.9, "workers": [worker]}
    placed["devices"] = [{"name": device, "count": 1, "memory_bytes": 4.0 * GIB}]
    placed |= {key: value for key, value in change.items() if key not in worker}
    Path("placement.json").write_text(json.dumps(placed))
    given = ["--profile", "small.json", "--placement", "placement.json", "--http", "127.0.0.1:0", *words]
    assert run(["serve", "small_model:model", *given, "--quiet"]) == 2
    assert says in capsys.readouterr().err
