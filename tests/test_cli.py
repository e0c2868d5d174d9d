import subprocess
import sys

import pytest

from mosel import __version__, cli
from mosel.core.errors import ExecutionError, MoselError, UsageError

HEAVY = ("numpy", "torch", "numba", "scipy", "uvicorn", "matplotlib")


def test_help_imports_nothing_heavy() -> None:
    """`mosel --help` imports none of the libraries that take long to import."""
    code = (
        "import sys; from mosel import cli; status = cli.run(['--help']); "
        f"print('loaded:', *sorted(set(sys.modules) & {set(HEAVY)!r})); sys.exit(status)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "loaded:"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists every command."""
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f" {name} " in text for name in cli.COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`mosel --version` prints the version and nothing else."""
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("words", [["nope"], ["nope", "--help"], ["--nope"], ["prfile", "av-digits"]])
def test_unknown_word_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command or option is answered with one line that lists the commands, and status 2."""
    assert cli.run(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert repr(words[0]) in told.err
    assert ", ".join(cli.COMMANDS) in told.err


def test_unknown_command_imports_no_command() -> None:
    """A mistyped command is answered without importing any command."""
    code = (
        "import sys; from mosel import cli; status = cli.run(['nope']); "
        "print('loaded:', *[m for m in sys.modules if m.startswith('mosel.commands.')]); sys.exit(status)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.strip()) == (2, "loaded:")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that is listed can be imported, and its help begins with its line in the list."""
    assert cli.run([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"Usage: mosel {name} ")
    assert f" {cli.COMMANDS[name]} " in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_unknown_option_of_a_command_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that a command does not have is answered with one line and status 2."""
    assert cli.run([name, "--nope"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("mosel: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("a\n  b"), 2),
        (ExecutionError("a b"), 1),
        (MoselError("a b"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_becomes_a_line_and_a_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's mistake exits 2, a failure 1, an interrupt 130; each is told in one line without a traceback."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app_for", lambda _: fail)
    assert cli.run(["--help"]) == status
    told = capsys.readouterr().err
    assert told == ("mosel: interrupted\n" if status == 130 else "mosel: a b\n")


def test_missing_extra_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command whose library is not installed says which extra brings it."""
    monkeypatch.setattr(cli, "app_for", lambda _: _import_error("uvicorn.config"))
    assert cli.run(["--help"]) == 2
    assert "pip install 'mosel[serve]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("grpc.aio", "grpcio", "serve"), ("opentelemetry", "opentelemetry-api", "otel")],
)
def test_missing_module_whose_package_is_called_otherwise(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The module `grpc` is of the package grpcio: the extra that brings it is named all the same."""
    monkeypatch.setattr("importlib.metadata.requires", lambda _: [f"{package}>=1.27; extra == '{extra}'"])
    monkeypatch.setattr(cli, "app_for", lambda _: _import_error(module))
    assert cli.run(["--help"]) == 2
    assert f"pip install 'mosel[{extra}]'" in capsys.readouterr().err


def test_missing_module_of_no_extra_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails for another reason than a missing extra is a bug and keeps its traceback."""
    monkeypatch.setattr(cli, "app_for", lambda _: _import_error("mosel.nowhere"))
    with pytest.raises(ImportError, match="cannot import"):
        cli.run(["--help"])


def _import_error(name: str) -> None:
    cause = ModuleNotFoundError(f"No module named {name!r}", name=name)
    raise ImportError("cannot import the command") from cause
