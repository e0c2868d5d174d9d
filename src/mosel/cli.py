"""The command line: which commands there are, and how an error becomes a line and an exit status.

Each command lives in `commands/`, imported only when it is called, so that `mosel --help` starts at once.
"""

import importlib.metadata
import re
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from mosel import __version__
from mosel.core.errors import MoselError, UsageError

COMMANDS = {
    "profile": "Measure latency, memory and accuracy of every modality combination and batch size of a model.",
    "plan": "Compute the exact Pareto frontier of every job size from a profile (§5.1).",
    "place": "Choose which models and precisions live on which device, for the requests of a workload.",
    "workload": "Write a workload: arrivals, job sizes and SLOs.",
    "simulate": "Run a workload through the scheduler in virtual time.",
    "bound": "Print the share of requests that no schedule could exceed on time, as JSON.",
    "serve": "Serve models over the Open Inference Protocol until SIGTERM or SIGINT, which drain.",
    "replay": "Send a workload to a running server, each job at its own time, "
    "and record what became of every job.",
    "chaos": "Bring faults upon a server of its own under load, and check that every job is accounted for.",
    "report": "Make one HTML file, with a table and plots, from run directories.",
    "reproduce": "Reproduce the paper's figures and tables, and more, from profiles, as one HTML report "
    "and CSV files.",
}

USAGE_STATUS, FAILURE_STATUS, INTERRUPTED_STATUS = 2, 1, 128 + 2

TOP_LEVEL_OPTIONS = ("--help", "-h", "--version")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status: 0, 1 for a failure, 2 for a usage or input error."""
    sys.exit(run(words))


def run(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; errors are told in one line on stderr."""
    words = sys.argv[1:] if words is None else words
    try:
        _check_command(words)
        app_for(words[0] if words else "")(
            words, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except (UsageError, CycloptsError) as error:
        return _tell(error, USAGE_STATUS)
    except MoselError as error:
        return _tell(error, FAILURE_STATUS)
    except ImportError as error:
        return _tell(_missing_extra(error), USAGE_STATUS)
    except KeyboardInterrupt:
        return _tell("interrupted", INTERRUPTED_STATUS)
    return 0


def app_for(command: str) -> App:
    """Return the application in which `command` is explained by its docstring, every other by one line."""
    app = App(
        name="mosel",
        help="An inference server that chooses modalities so that multi-modal models meet their deadlines.\n\n"
        "Example: mosel profile av-digits -o profile.json && mosel serve av-digits --profile profile.json",
        version=__version__,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,  # `run` answers it with a line and a status
    )
    for name, text in COMMANDS.items():
        app.command(f"mosel.commands.{name}:{name}", name=name, help=None if name == command else text)
    return app


def _check_command(words: Sequence[str]) -> None:
    # Here because cyclopts would import every command to look for one that is spelt alike.
    if words and words[0] not in {*COMMANDS, *TOP_LEVEL_OPTIONS}:
        kind = "option" if words[0].startswith("-") else "command"
        raise UsageError(f"there is no {kind} {words[0]!r}; the commands are {', '.join(COMMANDS)}")


def _missing_extra(error: ImportError) -> str:
    """Return the line that names the extra to install; raise `error` again if no extra brings the module."""
    missing = _missing_module(error)
    for requirement in importlib.metadata.requires("mosel") or ():
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name and extra and missing != "mosel" and name[0].replace("-", "_").lower() == missing:
            return f"{missing} is not installed; install it with: pip install 'mosel[{extra[1]}]'"
    raise error


def _missing_module(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            name = error.name.split(".")[0].lower()
            return _PACKAGES.get(name, name)
        error = error.__cause__
    return ""


_PACKAGES = {"grpc": "grpcio", "google": "protobuf", "opentelemetry": "opentelemetry_api"}
"""Modules whose package is called otherwise."""


def _tell(error: object, status: int) -> int:
    line = " ".join(str(error).split())
    print(f"mosel: {line}", file=sys.stderr)
    return status
