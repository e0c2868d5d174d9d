"""What `mosel serve` refuses before it serves: one clear line, exit status 2, and nothing started."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mosel.cli import run
from mosel.commands.serving import scheduler_options
from mosel.core.errors import UsageError
from mosel.core.tables import write_profile
from mosel.frontend.config import ServeConfig
from mosel.online.serving import LEAD_NS
from tests.process.serving import SOURCE, WORD, elsewhere, make_profile

pytestmark = pytest.mark.process

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `mosel serve` in a folder with a model and its profile; return the one line of its error."""
    (tmp_path / "small_model.py").write_text(SOURCE)
    write_profile(make_profile(), tmp_path / "profile.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOSEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(*words: str, model: str = WORD) -> str:
        address = () if "--http" in words else ("--http", "127.0.0.1:0")
        assert run(["serve", *([model] if model else []), *address, *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return call


def write(path: str, **changes: Any) -> None:
    """Write a profile of the small model that differs in `changes`."""
    write_profile(make_profile(**changes), Path(path))


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("", (), "no model to serve; give a zoo name"),
        ("nothing", (), "not in the zoo"),
        ("nowhere:model", (), "cannot be imported"),
        (WORD, ("--policy", "best"), "policy 'best' is not known; expected one of none, none+batching, random"),
        (WORD, ("--engine", "cloud"), "engine 'cloud' is not known; expected one of local, ray"),
        (WORD, ("--ray-address", "127.0.0.1:6379"), "is for engine ray; give --engine ray too"),
        (WORD, ("--log-format", "xml"), "log format 'xml' is not known; expected one of text, json"),
        (WORD, ("--traces",), "no OpenTelemetry SDK is set up, so that nothing would export them"),
        (WORD, ("--log-level", "loud"), "log level 'loud' is not known; expected one of warning, info, debug"),
        (WORD, ("--http", "8000"), "expected HOST:PORT"),
        (WORD, ("--http", "203.0.113.7:0"), "cannot listen on 203.0.113.7:0"),
        (WORD, ("--workers", "0"), "command line: Expected `int` >= 1 - at `$.workers`"),
        (WORD, ("--profile", "nothing.json"), "nothing.json: cannot be read: No such file"),
        (WORD, ("--config", "nothing.toml"), "nothing.toml: cannot be read: No such file"),
        (WORD, (WORD,), "one is named twice"),
        (WORD, ("--profile", "profile.json", "--profile", "profile.json"), "expected one a model"),
    ],
)
def test_words(refused: Refused, model: str, words: tuple[str, ...], said: str) -> None:
    """A wrong word is told with what was expected."""
    assert said in refused(*words, model=model)


def test_truncated_profile(refused: Refused) -> None:
    """A profile that was cut short is told by name."""
    raw = Path("profile.json").read_bytes()
    Path("cut.json").write_bytes(raw[: len(raw) // 2])
    assert "cut.json: is not valid JSON" in refused("--profile", "cut.json")


def test_edited_profile(refused: Refused) -> None:
    """A profile that was edited badly is told by name and key."""
    edited = json.loads(Path("profile.json").read_bytes())
    edited["modes"][1]["latency_s"][0] = -1
    Path("edited.json").write_text(json.dumps(edited))
    assert "edited.json: key `modes[1].latency_s[0]` is -1" in refused("--profile", "edited.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "other"}, "p.json: is a profile of model 'other'; expected one of small"),
        ({"device": elsewhere()}, "p.json: the profile was measured on another machine"),
        ({"extra": {"version": "0"}}, "p.json: the profile is of version 0 of 'small'"),
        ({"extra": {"threads": 3}}, "p.json: the profile was measured with 3 CPU threads"),
        ({"extra": {"accuracy_source": "none"}}, "model 'small' has random weights"),
    ],
)
def test_profile_of_something_else(refused: Refused, changes: dict[str, Any], said: str) -> None:
    """A profile of another model, device, version or thread count is told by name, with what to do."""
    write("p.json", **changes)
    assert said in refused("--profile", "p.json")


def test_port_in_use(refused: Refused) -> None:
    """A port that is in use is told before anything is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--http", f"127.0.0.1:{port}", model="nothing")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; give another --http" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--profile", "profile.json", "--engine", "ray", "--ray-address", "127.0.0.1:1"),
            "no Ray cluster answers at '127.0.0.1:1'",
        ),
        (
            ("--groups", "3", "--profile", "profile.json"),
            "3 groups of 2 workers; expected at least one worker a",
        ),
    ],
)
def test_front_doors(refused: Refused, words: tuple[str, ...], said: str) -> None:
    """What groups and front doors cannot do together is told with what to do."""
    assert said in refused("--front-doors", "1", "--workers", "2", *words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("polcy = 'none'", "serve.toml: key `polcy` is unknown; expected some of models"),
        ("[options]\nlead = 1", "option 'lead' is unknown; expected some of lead_ns"),
        ("[options]\nlead_ns = 'long'", "table `options`: Expected `int`"),
        ("[[group]]\nspeed = 1", "serve.toml: Object contains unknown field `speed` - at `$.group[0]`"),
        (
            "[[group]]\nworkers = 2",
            "are of groups that are processes, with workers that stay: give --front-doors",
        ),
        ("groups = 3\n[[group]]", "1 tables `group` with 1 workers; leave out --groups 3 and --workers 1"),
        ("front_doors = 1\n[[group]]\nprofile = ['none.json']", "none.json: cannot be read"),
        ("accuracy = 'nothing.json'\nprofile = 'profile.json'", "nothing.json: cannot be read"),
    ],
)
def test_configuration(refused: Refused, text: str, said: str) -> None:
    """What is wrong in a configuration file is told with what was expected."""
    Path("serve.toml").write_text(text)
    assert said in refused("--config", "serve.toml")


def test_scheduler_options() -> None:
    """The table `options` sets the scheduler's own; the rest keeps the live engine's values."""
    options = scheduler_options(ServeConfig(options={"batch_limit": 4}))
    assert options.batch_limit == 4
    assert options.lead_ns == LEAD_NS
    with pytest.raises(UsageError, match="option 'speed' is unknown"):
        scheduler_options(ServeConfig(options={"speed": 1}))
