from pathlib import Path

import pytest

from mosel.core.errors import FileError, UsageError
from mosel.frontend.checks import Limits
from mosel.frontend.config import Address, ServeConfig, parse_address, read_config


def write(folder: Path, text: str) -> Path:
    """Write a configuration file."""
    path = folder / "serve.toml"
    path.write_text(text)
    return path


def test_defaults_stay_on_this_machine() -> None:
    """Without a file and words the server listens on loopback only."""
    config = read_config(None, {})
    assert config == ServeConfig()
    assert parse_address(config.http) == Address("127.0.0.1", 8000)


def test_command_line_wins(tmp_path: Path) -> None:
    """What the command line gives goes before the file, which goes before the defaults."""
    path = write(
        tmp_path,
        'models = "a"\nprofile = ["p.json"]\nworkers = 2\nseed = 3\njob_requests = 5\n'
        "[tenants]\nprobes = 0.1\n[options]\nbatch_limit = 4\n",
    )
    config = read_config(path, {"workers": 4, "models": ("b", "c")})
    assert config.models == ("b", "c")
    assert config.profile == ("p.json",)
    assert config.workers == 4
    assert config.seed == 3
    assert config.tenants == {"probes": 0.1}
    assert config.options == {"batch_limit": 4}
    assert config.limits == Limits(job_requests=5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("polcy = 'none'", "key `polcy` is unknown; expected some of models, profile, accuracy, policy, http"),
        ("workers = 0", "Expected `int` >= 1 - at `\\$.workers`"),
        ("workers = 'two'", "Expected `int`, got `str` - at `\\$.workers`"),
        ("drain_s = -1", "Expected `float` > 0.0"),
        ("drain_s = nan", "Expected `float`"),
        ("drain_s = inf", "Expected `float` <= 86400.0"),
        ("tenants = {a = 0}", r"Expected `float` >= 1e-09 - at `\$.tenants"),
        ("tenants = {a = inf}", r"Expected `float` <= 1000000000.0 - at `\$.tenants"),
        ("workers", "is not valid TOML"),
        ("workers = 1\nworkers = 2", "is not valid TOML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, said: str) -> None:
    """A file with an unknown key or a wrong value is refused with its name, the key and what was expected."""
    path = write(tmp_path, text)
    with pytest.raises(FileError, match=said) as caught:
        read_config(path, {})
    assert str(path) in str(caught.value)


def test_environment(tmp_path: Path) -> None:
    """A variable goes before the file and behind the command line; an empty one says nothing."""
    path = write(tmp_path, "workers = 2\nseed = 3\nthreads = 4\n")
    environ = {
        "MOSEL_SERVE_MODELS": "a, b:c,size=d,e=f, g",
        "MOSEL_SERVE_HTTP": "0.0.0.0:80",
        "MOSEL_SERVE_WORKERS": "5",
        "MOSEL_SERVE_SEED": "6",
        "MOSEL_SERVE_THREADS": "",
        "MOSEL_SERVE_DRAIN_S": "1.5",
        "MOSEL_SERVE_TENANTS": "{gold = 2}",
        "MOSEL_CACHE": "elsewhere",
        "WORKERS": "7",
    }
    config = read_config(path, {"seed": 8}, environ)
    assert config == ServeConfig(
        models=("a", "b:c,size=d,e=f", "g"),
        http="0.0.0.0:80",
        workers=5,
        seed=8,
        threads=4,
        drain_s=1.5,
        tenants={"gold": 2.0},
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("WORKER", "2", "key `worker` is unknown; expected some of models"),
        ("WORKERS", "two", "Expected `int`, got `str` - at `\\$.workers`"),
        ("WORKERS", "0", "Expected `int` >= 1"),
        ("DRAIN_S", "nan", "Expected `float`"),
        ("TENANTS", "gold=2", "MOSEL_SERVE_TENANTS is no TOML table, like {gold = 2}"),
        ("TENANTS", "{gold = 0}", "Expected `float` >= 1e-09"),
    ],
)
def test_bad_environment(name: str, text: str, said: str) -> None:
    """A variable that is unknown or has a wrong value is refused, naming the environment as its source."""
    with pytest.raises(UsageError, match=f"^environment: .*{said}"):
        read_config(None, {}, {f"MOSEL_SERVE_{name}": text})


def test_bad_words() -> None:
    """A wrong value on the command line is a usage error of the command line."""
    with pytest.raises(UsageError, match=r"command line: Expected `int` >= 1 - at `\$.workers`"):
        read_config(None, {"workers": 0})


@pytest.mark.parametrize(
    ("text", "address"),
    [("localhost:0", Address("localhost", 0)), ("[::1]:80", Address("::1", 80))],
)
def test_addresses(text: str, address: Address) -> None:
    """HOST:PORT, with brackets around an IPv6 host."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["8000", ":8000", "a:", "a:http", "a:70000", "::1:80", "[::1]", "[a]:80", ""])
def test_bad_addresses(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(UsageError, match=r"expected HOST:PORT, like 127\.0\.0\.1:8000"):
        parse_address(text)
