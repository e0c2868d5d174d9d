"""How a server is configured: a frozen table, from a TOML file, the environment and the command line.

What comes later in this list goes before what comes earlier, and each is checked by itself, so that an error
names its source.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from mosel.core.errors import FileError, UsageError
from mosel.core.files import read_bytes
from mosel.frontend.checks import Limits
from mosel.frontend.parameters import LARGEST_WEIGHT, LEAST_WEIGHT
from mosel.online.policies import DEFAULT

CONFIG_LIMIT_BYTES = 1 << 20
ENGINES = ("local", "ray")
PREFIX = "MOSEL_SERVE_"

LONGEST_S = 86_400.0

Count = Annotated[int, msgspec.Meta(ge=1)]
Duration = Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Weight = Annotated[float, msgspec.Meta(ge=LEAST_WEIGHT, le=LARGEST_WEIGHT)]


class GroupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group that is not like the others; what it does not say is as for all.

    Attributes:
        workers: how many it has.
        device: what they run on.
        threads: of each, on a CPU.
        profile: profile files, one for each model that shall not use its cached profile.
    """

    workers: Count = 1
    device: str = ""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    profile: tuple[str, ...] = ()


class ServeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that `mosel serve` takes.

    Attributes:
        models: zoo names, or package.module:object.
        profile: profile files, one for each model that shall not use its cached profile.
        accuracy: a JSON file of accuracies that replace the profile's.
        policy: how jobs are scheduled.
        http: HOST:PORT to listen on; port 0 takes a free one.
        grpc: HOST:PORT to listen on for gRPC too; empty: no gRPC.
        workers: how many worker processes.
        most_workers: up to how many are added as the load grows, and removed again; 0 keeps their number.
        groups: how many replica groups they are dealt out to, each with a scheduler of its own.
        group: what each group is, where they are not alike; there are as many then.
        front_doors: how many processes take calls and hand them to the groups, which are processes too then; 0:
            one process takes the calls and has all groups.
        placement: a placement.json: there are as many workers as it says, with the models that it says, which
            move as the load changes; empty: each worker has all models.
        placement_every_s: how often it is looked whether models should move.
        device: what the workers run on; empty takes CUDA where there is any, else the CPU.
        threads: of each worker, on a CPU.
        seed: for policies that draw lots.
        engine: what the workers stand on: processes of this machine, or actors of a Ray cluster.
        ray_address: of a Ray cluster that runs already; empty starts one on this machine.
        drain_s: how long jobs that were accepted may still run after SIGTERM.
        hang_s: a batch without an answer for this long, and for 20 times what 1 in 100 of its like takes by the
            profile, has hung its worker, which is killed and replaced.
        queue_s: how many seconds of work each worker may have before it; beyond that jobs are refused.
        connections: how many there may be at once.
        keys: a file of API keys; without it every caller is let in.
        quotas: requests a second that each tenant may send.
        tls_certificate: a PEM file with the certificate chain; HTTPS is spoken then.
        tls_key: a PEM file with the private key.
        body_bytes: the largest request body.
        json_bytes: the largest JSON object in one; raw tensors stand outside it.
        held_bytes: of request bodies at once; beyond it calls are refused.
        job_requests: the largest job.
        tenants: each tenant's weight: what its on-time requests are worth beside those of others, which have 1.
        log_format: of what is said on stderr: text for a person, json for a program.
        log_level: from which level on: warning, info (jobs that were not served), debug (every job).
        shadow_share: of the jobs that carried all modalities and ran in a cheaper mode, how many run once more
            in the most accurate one while the server is idle, to see how far the answers agree.
        traces: whether each job becomes OpenTelemetry spans.
        options: tuning of the scheduler and its policies, by the names of its `Options`.
    """

    models: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    accuracy: str | None = None
    policy: str = DEFAULT
    http: str = "127.0.0.1:8000"
    grpc: str = ""
    workers: Count = 1
    most_workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    groups: Count = 1
    group: tuple[GroupConfig, ...] = ()
    front_doors: Annotated[int, msgspec.Meta(ge=0)] = 0
    placement: str = ""
    placement_every_s: Duration = 30.0
    device: str = ""
    threads: Count = 1
    seed: int = 0
    engine: str = "local"
    ray_address: str = ""
    drain_s: Duration = 30.0
    hang_s: Duration = 10.0
    queue_s: Duration = 600.0
    connections: Count = 16384
    keys: str | None = None
    quotas: dict[str, Rate] = {}
    tls_certificate: str | None = None
    tls_key: str | None = None
    body_bytes: Count = 64 << 20
    json_bytes: Count = 8 << 20
    held_bytes: Count = 4 << 30
    job_requests: Count = 1024
    tenants: dict[str, Weight] = {}
    log_format: str = "text"
    log_level: str = "warning"
    shadow_share: Share = 0.0
    traces: bool = False
    options: dict[str, int | float | str | bool] = {}

    @property
    def limits(self) -> Limits:
        """How much it takes."""
        return Limits(self.body_bytes, self.json_bytes, self.job_requests, self.held_bytes)


class Address(msgspec.Struct, frozen=True):
    """Where to listen."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """As `parse_address` reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_config(
    path: Path | None, words: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> ServeConfig:
    """Return the configuration.

    Args:
        path: a TOML file, if there is one.
        words: what the command line gives.
        environ: environment variables: `MOSEL_SERVE_WORKERS` is the key `workers`, and so on. One that is empty
            says nothing; lists are separated by commas; tables are TOML, like `{gold = 2}`.

    Raises:
        FileError: the file cannot be read, is no TOML, or has an unknown key or a wrong value.
        UsageError: a variable is unknown or, like a word of the command line, has a wrong value.
    """
    from_file = {} if path is None else _read_toml(path)
    for key in _LISTS:
        if isinstance(one := from_file.get(key), str):
            from_file[key] = [one]
    from_environ = _read_environ(environ or {})
    _check(from_file, str(path), FileError)
    _check(from_environ, "environment", UsageError)
    _check(words, "command line", UsageError)
    return msgspec.convert({**from_file, **from_environ, **words}, ServeConfig, strict=False)


def parse_address(text: str) -> Address:
    """Return the host and port of `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        UsageError: it is no such thing.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or not port.isdecimal() or int(port) > 65535 or (":" in bare) != (bare != host):
        raise UsageError(f"address {text!r}: expected HOST:PORT, like 127.0.0.1:8000 or [::1]:8000")
    return Address(bare, int(port))


def _read_toml(path: Path) -> dict[str, object]:
    raw = read_bytes(path, CONFIG_LIMIT_BYTES)
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: is not valid TOML: {error}") from error


_LISTS, _TABLES = ("models", "profile"), ("tenants", "options", "quotas", "group")
_BETWEEN = re.compile(r",(?!\s*\w+=)")
"""What separates the entries of a list; a model's options, `vilt,seed=1`, are of its entry."""


def _read_environ(environ: Mapping[str, str]) -> dict[str, object]:
    given = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
    return {name.removeprefix(PREFIX).lower(): _parsed(name, text) for name, text in given.items()}


def _parsed(name: str, text: str) -> object:
    key = name.removeprefix(PREFIX).lower()
    if key in _LISTS:
        return [each.strip() for each in _BETWEEN.split(text)]
    if key not in _TABLES:
        return text
    try:
        return tomllib.loads(f"table = {text}")["table"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"environment: {name} is no TOML table, like {{gold = 2}}: {error}") from error


def _check(found: Mapping[str, object], source: str, kind: type[UsageError]) -> None:
    unknown = [key for key in found if key not in ServeConfig.__struct_fields__]
    if unknown:
        known = ", ".join(ServeConfig.__struct_fields__)
        raise kind(f"{source}: key `{unknown[0]}` is unknown; expected some of {known}")
    try:
        msgspec.convert(found, ServeConfig, strict=source != "environment")
    except msgspec.ValidationError as error:
        raise kind(f"{source}: {error}") from error
