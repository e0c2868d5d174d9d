"""Two groups behind two front doors, each a process: one server to whoever calls."""

import json
import os
import signal
import socket
import ssl
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
from tritonclient.utils import InferenceServerException

from tests.process.serving import SLEEPS, Server, tensor, tokens
from tests.process.test_doors import CERTIFICATE, pem
from tests.process.test_serve import post, until

__all__ = ["pem"]

pytestmark = pytest.mark.process

WORDS = ("--workers", "2", "--groups", "2", "--front-doors", "2")
WAVE = {"name": "wave", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
GROUP, DOOR = "mosel.commands.group", "mosel.frontend.doors.process"
GOLD, FREE = "g" * 16, "f" * 16
INFER = "/v2/models/small/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready."""
    running = Server(tmp_path_factory.mktemp("groups"), (*WORDS, "--grpc", "127.0.0.1:0"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def processes(server: Server, module: str) -> list[int]:
    """Return the server's own processes that run a module."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = (stat.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if parent == server.process.pid and module.encode() in words:
            found.append(int(stat.parent.name))
    return sorted(found)


def call(server: Server, path: str, body: Any = None) -> tuple[int, Any]:
    """Call the server anew, at whichever door; returns status and JSON."""
    raw = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url + path, raw), timeout=60) as reply:
            return reply.status, json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def infer(server: Server, **parameters: Any) -> tuple[int, Any]:
    """Send a job of one request."""
    return call(server, INFER, {"inputs": [WAVE], "parameters": parameters})


def samples(server: Server, name: str) -> Counter[str]:
    """Return a metric by what stands in its braces."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    found = Counter[str]()
    for line in lines:
        if line.startswith((name + "{", name + " ")):
            labels, _, value = line.removeprefix(name).rpartition(" ")
            found[labels] += round(float(value))
    return found


def test_what_it_says(server: Server) -> None:
    """One line says what is served by how many; there are as many processes."""
    said = f"serving small on {server.url} (policy joint, 2 workers in 2 groups, 2 front doors)"
    assert said in server.notes
    assert [len(processes(server, module)) for module in (GROUP, DOOR)] == [2, 2]


def test_jobs_are_spread(server: Server) -> None:
    """Both groups serve, no two batches have the same number, and counts carry their group."""
    before = samples(server, "mosel_jobs_total")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: infer(server), range(60)))
    assert {status for status, _ in replies} == {200}
    batches = [json.loads(told["parameters"]["batches"])[0] for _, told in replies]
    assert {batch["worker"] for batch in batches} == {0, 1}
    assert all(batch["id"] % 2 == batch["worker"] for batch in batches)
    more = samples(server, "mosel_jobs_total") - before
    assert sum(more.values()) == 60
    assert set(more) == {f'{{group="{group}",model="small",outcome="served"}}' for group in (0, 1)}


def test_the_reference_client(server: Server) -> None:
    """What it sends raw and gets raw is as with one process; so are health and metadata."""
    client = server.client()
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.get_model_metadata("small")["name"] == "small"
    result = client.infer("small", [tensor("tokens", tokens(5, 1, 2))], request_id="mine")
    assert result.as_numpy("total").tolist() == [6.0, 6.0]
    assert result.get_response()["id"] == "mine"
    client.close()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """A client over gRPC."""
    with over_grpc.InferenceServerClient(server.grpc) as made:
        yield made


def wave(requests: int = 1) -> list[Any]:
    """Return the sound of so many requests as the client over gRPC sends it."""
    values = np.array([[1, 2]] * requests, "float32")
    made = over_grpc.InferInput("wave", list(values.shape), "FP32")
    return [made.set_data_from_numpy(values)]


def receipt_of(result: Any) -> dict[str, str]:
    """Return the words of the receipt in an answer over gRPC."""
    return {name: value.string_param for name, value in result.get_response().parameters.items()}


def test_jobs_over_grpc_are_spread(server: Server, client: Any) -> None:
    """Groups serve them, count them, and front doors count what was answered; so far as over HTTP."""
    before = samples(server, "mosel_door_answered_total")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: client.infer("small", wave(2), request_id="a"), range(40)))
    assert {receipt_of(result)["outcome"] for result in results} == {"served"}
    assert results[0].as_numpy("total").tolist() == [3.0, 3.0]
    assert results[0].get_response().id == "a"
    workers = {batch["worker"] for result in results for batch in json.loads(receipt_of(result)["batches"])}
    assert workers == {0, 1}
    assert samples(server, "mosel_door_answered_total") - before == {'{outcome="served"}': 40}


def test_the_deadline_of_a_call_over_grpc(client: Any) -> None:
    """It counts at the group as at the door: one that is over is no reason to look for a group."""
    told = client.infer("small", wave(), client_timeout=15.0).get_response().parameters
    assert 0 < told["slack_ms"].double_param < 15_200  # gRPC rounds what is left up, to three digits


def test_what_is_not_inference_over_grpc(server: Server, client: Any) -> None:
    """Health and metadata are told, models are unloaded and loaded everywhere, and statistics add up."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.get_model_metadata("small").name == "small"
    client.unload_model("small")
    for _ in range(4):
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            client.infer("small", wave())
    client.load_model("small")
    assert {receipt_of(client.infer("small", wave()))["outcome"] for _ in range(4)} == {"served"}
    stats = client.get_inference_statistics("small", as_json=True)["model_stats"][0]
    assert int(stats["inference_stats"]["success"]["count"]) == sum(
        count for label, count in samples(server, "mosel_jobs_total").items() if "served" in label
    )


@pytest.mark.parametrize(
    ("model", "parameters", "said"),
    [
        ("small", {"accuracy_slo": "0.85"}, r"INVALID_ARGUMENT\] .*the best is 0\.8"),
        ("small", {"latency_slo_ms": "0.01"}, r"UNAVAILABLE\] rejected \(latency_unreachable\)"),
        ("small", {"offer": "g1j1-f"}, r"FAILED_PRECONDITION\] .*is not held"),
        ("small", {"speed": "1"}, r"INVALID_ARGUMENT\] parameter 'speed' is unknown"),
        ("other", {}, r"NOT_FOUND\] "),
    ],
)
def test_bad_calls_over_grpc(client: Any, model: str, parameters: dict[str, str], said: str) -> None:
    """They get the status and the words that one process has for them."""
    with pytest.raises(InferenceServerException, match=said):
        client.infer(model, wave(), parameters=parameters)


def test_offers_over_grpc_stick(client: Any) -> None:
    """An upload goes to the group that holds its place."""
    for _ in range(6):
        told = receipt_of(
            client.infer("small", [], parameters={"offered_requests": 1, "offered_modalities": "sound"})
        )
        result = client.infer("small", wave(), parameters={"offer": told["offer"]})
        assert receipt_of(result)["outcome"] == "served"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"no JSON", 400, "not valid JSON"),
        (b'{"inputs": []}', 400, "the call has no inputs"),
        (json.dumps({"inputs": [WAVE], "parameters": {"accuracy_slo": 0.85}}).encode(), 400, "the best is 0.8"),
        (json.dumps({"inputs": [WAVE], "parameters": {"latency_slo_ms": 0.01}}).encode(), 503, "latency_unr"),
        (json.dumps({"inputs": [WAVE], "parameters": {"offer": "g1j1-f"}}).encode(), 410, "is not held"),
        (json.dumps({"inputs": [WAVE], "parameters": {"offer": "g9j1-f"}}).encode(), 410, "is not held"),
        (json.dumps({"inputs": [WAVE], "parameters": {"offer": "nonsense"}}).encode(), 410, "is not held"),
    ],
)
def test_bad_calls(server: Server, body: bytes, status: int, said: str) -> None:
    """They get the status and the words that one process has for them."""
    got, told, _ = post(server, body)
    assert got == status
    assert said in told["error"]


def test_no_client_says_when_it_arrived(server: Server) -> None:
    """What front doors tell groups of a call is theirs alone to tell."""
    body = json.dumps({"inputs": [WAVE]}).encode()
    forged = {"mosel-arrival-ns": "1", "mosel-start-ns": "1", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(server.url + INFER, body, forged), timeout=30) as reply:
        assert json.load(reply)["parameters"]["outcome"] == "served"


def test_offers_stick_and_feedback_finds_its_job(server: Server) -> None:
    """An upload goes to the group that holds its place, feedback to the one that had the job."""
    for number in range(6):
        status, told = call(server, "/v2/models/small/offer", {"requests": 1, "parameters": {}})
        assert status == 200
        inputs = [WAVE, {"name": "tokens", "datatype": "FP32", "shape": [1, 4], "data": [1, 0, 0, 0]}]
        wanted = [each for each in inputs if each["name"] in told["inputs"]]
        uploaded = {"id": f"job {number}", "inputs": wanted, "parameters": {"offer": told["offer"]}}
        assert call(server, INFER, uploaded)[0] == 200
        scores = {"id": f"job {number}", "scores": [1.0]}
        assert call(server, "/v2/models/small/feedback", scores)[0] == 200
        assert call(server, "/v2/models/small/feedback", scores)[0] == 410


def test_what_concerns_all_groups(server: Server) -> None:
    """A model is unloaded and loaded in every group; statistics and the dashboard's state are of all."""
    assert call(server, "/v2/repository/models/small/unload", {})[0] == 200
    assert {infer(server)[0] for _ in range(8)} == {503}
    assert call(server, "/v2/repository/models/small/load", {})[0] == 200
    assert {infer(server)[0] for _ in range(8)} == {200}
    stats = call(server, "/v2/models/small/stats")[1]["model_stats"][0]
    served = {label: count for label, count in samples(server, "mosel_jobs_total").items() if "served" in label}
    assert stats["inference_stats"]["success"]["count"] == sum(served.values())
    state = call(server, "/dashboard/state?since=0")[1]
    assert state["workers"] == ["ready", "ready"]
    assert state["settings"]["workers"] == 2
    column = state["columns"].index("served")
    assert sum(second[column] for second in state["seconds"]) == state["ended"]["served"]
    modes = call(server, "/v2/models/small/accuracy")[1]["modes"]
    assert {mode["group"] for mode in modes} == {0, 1}


def test_a_client_that_goes_away(server: Server, client: Any) -> None:
    """Over either protocol its job is dropped in its group, and leaves the queue."""
    slow = [over_grpc.InferInput("tokens", [1, 4], "FP32").set_data_from_numpy(tokens(SLEEPS, 0.5))]
    before = sum(count for label, count in samples(server, "mosel_jobs_total").items() if "dropped" in label)
    running = [client.async_infer("small", slow, lambda **_: None) for _ in range(6)]
    raw = json.dumps({"inputs": [{**WAVE, "data": [1, 1]}]}).encode()
    head = f"POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
    port = int(server.url.rpartition(":")[2])
    gone = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    for one in gone:
        one.sendall(head + raw)
    until(lambda: sum(samples(server, "mosel_queued_jobs").values()) >= 6)
    for each in running:
        each.cancel()
    for one in gone:
        one.close()
    until(lambda: not sum(samples(server, "mosel_queued_jobs").values()))
    after = sum(count for label, count in samples(server, "mosel_jobs_total").items() if "dropped" in label)
    assert after - before >= 6


def test_a_group_that_is_killed(server: Server, client: Any) -> None:
    """Its jobs go to the other one, over either protocol, each with one answer, and it is started anew."""
    lost = processes(server, GROUP)[0]
    body = {"inputs": [{"name": "tokens", "datatype": "FP32", "shape": [1, 4], "data": [SLEEPS, 0.2, 0, 0]}]}
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(call, server, INFER, body) for _ in range(10)]
        slow = over_grpc.InferInput("tokens", [1, 4], "FP32").set_data_from_numpy(tokens(SLEEPS, 0.2))
        over = [pool.submit(client.infer, "small", [slow]) for _ in range(2)]
        until(lambda: all(samples(server, "mosel_queued_jobs").values()))
        os.kill(lost, signal.SIGKILL)
        replies = [each.result() for each in waiting]
    assert Counter(status for status, _ in replies) == {200: 10}
    assert [receipt_of(each.result())["outcome"] for each in over] == ["served"] * 2
    assert {told["parameters"]["outcome"] for _, told in replies} == {"served"}
    assert sum(samples(server, "mosel_door_moved_total").values()) >= 1
    until(lambda: len(samples(server, "mosel_queued_jobs")) == 2)
    assert lost not in processes(server, GROUP)
    assert {infer(server)[0] for _ in range(10)} == {200}


def test_a_front_door_that_is_killed(server: Server) -> None:
    """Its clients lose their connections; who comes anew, over either protocol, is served; it starts anew."""
    lost = processes(server, DOOR)[0]
    os.kill(lost, signal.SIGKILL)
    assert {infer(server)[0] for _ in range(16)} == {200}
    for _ in range(3):
        with over_grpc.InferenceServerClient(server.grpc) as client:
            assert receipt_of(client.infer("small", wave()))["outcome"] == "served"
    until(lambda: len(processes(server, DOOR)) == 2)
    assert lost not in processes(server, DOOR)


def test_keys_and_tls(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    """Doors speak TLS over both protocols and ask for a key; a call is of its tenant, and so is the quota."""
    (tmp_path / "keys.toml").write_text(f'gold = ["{GOLD}"]\nfree = ["{FREE}"]\n')
    settings = f'tls_certificate = "{pem[0]}"\ntls_key = "{pem[1]}"\nkeys = "keys.toml"\n[quotas]\nfree = 1.0\n'
    (tmp_path / "mosel.toml").write_text(settings)
    server = Server(tmp_path, (*WORDS, "--config", "mosel.toml", "--grpc", "127.0.0.1:0"))
    try:
        assert server.wait_until_ready().url.startswith("https://")
        trusting = ssl.create_default_context(cadata=CERTIFICATE)

        def status(path: str, key: str = "", body: Any = None) -> int:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            raw = None if body is None else json.dumps(body).encode()
            asked = urllib.request.Request(server.url + path, raw, headers)
            try:
                with urllib.request.urlopen(asked, context=trusting, timeout=30) as reply:
                    return int(reply.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        assert [status("/v2/health/ready"), status("/"), status("/metrics"), status("/v2")] == [
            200,
            200,
            401,
            401,
        ]
        assert [status(path, GOLD) for path in ("/metrics", "/v2", "/dashboard/state")] == [200] * 3
        job = {"inputs": [WAVE]}
        assert [status(INFER, key, job) for key in ("", "an unknown key", GOLD)] == [401, 401, 200]
        assert status(INFER, GOLD, {**job, "parameters": {"tenant": "free"}}) == 400
        free = {"inputs": [WAVE], "parameters": {"latency_slo_ms": 30_000}}
        assert [status(INFER, FREE, free) for _ in range(4)].count(200) in (2, 3)
        safe = over_grpc.InferenceServerClient(server.grpc, ssl=True, root_certificates=str(pem[0]))
        with safe as client:
            assert client.is_server_live()
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer("small", wave())
            own = {"authorization": f"Bearer {GOLD}"}
            assert receipt_of(client.infer("small", wave(), headers=own))["outcome"] == "served"
            assert client.get_inference_statistics("small", headers=own).model_stats[0].name == "small"
    finally:
        server.close()


def test_end(tmp_path: Path) -> None:
    """SIGTERM drains: accepted jobs are answered, all processes end, and the tally is of all groups."""
    server = Server(tmp_path, WORDS)
    try:
        server.wait_until_ready()
        every = processes(server, GROUP) + processes(server, DOOR)
        slow = np.array([[SLEEPS, 1, 0, 0]], "float32")
        body = {"inputs": [{"name": "tokens", "datatype": "FP32", "shape": [1, 4], "data": slow[0].tolist()}]}
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(call, server, INFER, body)
            until(lambda: sum(samples(server, "mosel_queued_jobs").values()) == 1)
            server.signal(signal.SIGTERM)
            assert running.result()[0] == 200
        assert server.wait() == 0
        assert (
            "answered 1 jobs: served 1, late 0, dropped 0, rejected 0, failed 0; refused 0 calls"
            in server.notes
        )
        assert not [pid for pid in every if Path(f"/proc/{pid}").exists()]
    finally:
        server.close()
