"""What a real server logs for a program."""

import json
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from tests.process.serving import RAISES, Server, tensor, tokens

pytestmark = pytest.mark.process


def test_every_line_is_an_object(tmp_path: Path) -> None:
    """With `--log-format json` each line on stderr is an object, whoever speaks; jobs have theirs."""
    server = Server(tmp_path, ("--log-format", "json", "--log-level", "debug"))
    try:
        client = server.wait_until_ready().client()
        told = client.infer("small", [tensor("tokens", tokens())]).get_response()["parameters"]
        with pytest.raises(InferenceServerException, match="no such number"):
            client.infer("small", [tensor("tokens", tokens(RAISES))])
        client.close()
        server.signal()
        assert server.wait() == 0
    finally:
        server.close()
    lines = [json.loads(note) for note in server.notes]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    served, failed = [line for line in lines if line["logger"] == "mosel.jobs"]
    assert {name: served[name] for name in ("outcome", "reason", "decision", "modes")} == {
        name: told[name] for name in ("outcome", "reason", "decision", "modes")
    }
    assert (served["level"], failed["level"]) == ("debug", "info")
    assert (failed["outcome"], failed["reason"]) == ("failed", "model_failed")
    assert "no such number" in failed["message"]
    assert lines[-1]["message"].startswith("answered 2 jobs: served 1")
