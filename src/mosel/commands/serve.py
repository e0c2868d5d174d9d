"""`mosel serve`: models over the Open Inference Protocol."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from mosel.core.errors import UsageError
from mosel.core.files import allow_open_files
from mosel.core.tables import Profile, read_profile
from mosel.frontend import logs
from mosel.frontend.accuracies import check_claimed, unclaimed, with_accuracies
from mosel.frontend.config import ENGINES, ServeConfig, parse_address, read_config
from mosel.frontend.grpc import GrpcServer
from mosel.frontend.http import HttpApp
from mosel.frontend.keys import read_keys
from mosel.frontend.quotas import Quotas
from mosel.frontend.server import Door, listen, run, url_of
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.models.registry import find
from mosel.offline.profiler import make_profile
from mosel.offline.settings import Settings
from mosel.online.autoscaling import Ask, ask_nobody
from mosel.online.channel import ChannelFactory
from mosel.online.engine import Engine
from mosel.online.policies import POLICIES, Options
from mosel.online.serving import LEAD_NS, EngineConfig, ServedModel, process_channels, server_cores
from mosel.online.watched_channel import Patience
from mosel.runtime.device import default_device, describe, pin, profile_path
from mosel.runtime.fits import check_profile_fits

if TYPE_CHECKING:
    from mosel.frontend.traces import Traces

Say = Callable[[str], None]

QUICK_SAMPLES, QUICK_REPEATS = 500, 5
"""What a quick profile measures: enough to serve with until `mosel profile` has made a good one."""


def serve(
    *models: str,
    profile: tuple[Path, ...] = (),
    accuracy: Path | None = None,
    policy: str | None = None,
    http: str | None = None,
    grpc: str | None = None,
    workers: int | None = None,
    most_workers: int | None = None,
    groups: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    seed: int | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    log_format: str | None = None,
    log_level: str | None = None,
    traces: bool | None = None,
    config: Path | None = None,
    quiet: bool = False,
) -> None:
    """Serve models over the Open Inference Protocol until SIGTERM or SIGINT, which drain.

    Example: mosel serve av-digits --policy joint --http 127.0.0.1:8000

    Args:
        models: zoo names, or package.module:object, perhaps with options behind commas (vilt,checkpoint=FILE).
        profile: a profile.json, for each model that shall not use its cached profile; may be repeated.
        accuracy: a JSON file {"mode": accuracy} that replaces the profile's accuracies.
        policy: how jobs are scheduled (default: joint).
        http: HOST:PORT to listen on; port 0 takes a free one (default: 127.0.0.1:8000).
        grpc: HOST:PORT to listen on for gRPC too; port 0 takes a free one (default: no gRPC).
        workers: how many worker processes (default: 1).
        most_workers: up to how many are added as the load grows, and removed again (default: none).
        groups: how many replica groups they are dealt out to, each with a scheduler of its own (default: 1).
        device: cpu, cuda or cuda:INDEX (default: cuda where there is one).
        threads: CPU threads of each worker (default: 1).
        seed: for policies that draw lots (default: 0).
        engine: what the workers stand on: local, or ray (default: local).
        ray_address: of a Ray cluster that runs already, for engine ray (default: one is started here).
        log_format: of what is said on stderr: text, or json, one object a line (default: text).
        log_level: warning, info (jobs that were not served too) or debug (every job) (default: warning).
        traces: make OpenTelemetry spans of each job; start it as opentelemetry-instrument -- mosel serve.
        config: a TOML file with any of these and more; what is given here goes before it.
        quiet: say nothing but errors.
    """
    words = {
        "models": models,
        "profile": tuple(map(str, profile)),
        "accuracy": None if accuracy is None else str(accuracy),
        "policy": policy,
        "http": http,
        "grpc": grpc,
        "workers": workers,
        "most_workers": most_workers,
        "groups": groups,
        "device": device,
        "threads": threads,
        "seed": seed,
        "engine": engine,
        "ray_address": ray_address,
        "log_format": log_format,
        "log_level": log_level,
        "traces": traces,
    }
    given = {key: value for key, value in words.items() if value not in (None, ())}
    serve_configured(read_config(config, given, os.environ), quiet=quiet)


def serve_configured(config: ServeConfig, *, quiet: bool = False) -> None:
    """Serve as `config` says until a signal has ended it; `quiet` leaves out notes for the person who waits.

    Raises:
        UsageError: something is wrong with the configuration, a profile or a model.
        ExecutionError: no worker could be started, or the engine broke.
    """
    check_words(config)
    traces = _traces() if config.traces else None
    say = _notes(config.log_format, quiet)
    allow_open_files()
    keys = read_keys(Path(config.keys)) if config.keys else None
    door = Door(config.connections, config.tls_certificate, config.tls_key)
    door.check()
    tls = (config.tls_certificate, config.tls_key) if config.tls_certificate and config.tls_key else None
    options = scheduler_options(config)
    with ExitStack() as stack:
        stack.enter_context(logs.logging_to_stderr(config.log_format, config.log_level))
        listening = stack.enter_context(listen(parse_address(config.http)))
        models = {word: find(word) for word in config.models}
        device = config.device or default_device(_framework(models.values()))
        served = _served(models, config, device, say)
        engine_config = EngineConfig(
            config.workers,
            config.policy,
            config.seed,
            device,
            config.threads,
            options,
            Patience(hang_least_s=config.hang_s),
            config.queue_s,
            config.groups,
            config.most_workers,
        )
        names = ", ".join(one.model.name for one in served)
        say(f"listening on {url_of(listening, door.scheme)}: loading {names}")
        channels = stack.enter_context(channels_of(config, served, engine_config))
        engine = Engine(served, engine_config, channels=channels, ask=ask_of(config, engine_config))
        pin(server_cores(engine_config))
        many = "1 worker" if config.workers == 1 else f"{config.workers} workers"
        serving = f"serving {names} on {url_of(listening, door.scheme)} (policy {config.policy}, {many})"
        settings: dict[str, str | int] = {
            "policy": config.policy,
            "workers": config.workers,
            "seed": config.seed,
        }
        watchers = [logs.log_ended] if logs.logs_jobs(config.log_level) else []
        if traces is not None:
            engine.watch_decisions(traces.decided)
            watchers.append(traces.ended)
        quotas = Quotas(config.quotas)
        service = Service(
            engine, served, config.limits, settings, config.tenants, quotas, watchers, config.shadow_share
        )
        beside = GrpcServer(service, parse_address(config.grpc), keys, tls) if config.grpc else None
        try:
            run(HttpApp(service, keys), engine, listening, config.drain_s, say, serving, door, beside)
        finally:
            service.close()
        say(service.metrics.last_words())


def _traces() -> "Traces":
    """Return what makes spans.

    Raises:
        UsageError: nothing would export them.
        ImportError: OpenTelemetry is not installed.
    """
    from mosel.frontend.traces import Traces, configured_tracer  # opentelemetry is an optional extra

    return Traces(configured_tracer())


def _notes(log_format: str, quiet: bool) -> Say:
    """Return what says a note on stderr."""
    if log_format == logs.JSON:
        return logs.notes(quiet=quiet)
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False).print


@contextmanager
def channels_of(
    config: ServeConfig, served: Sequence[ServedModel], engine_config: EngineConfig
) -> Iterator[ChannelFactory]:
    """Hold what the workers stand on, and yield what makes them.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or it has too few devices.
    """
    if config.engine == "local":
        yield process_channels(served, engine_config)
        return
    if not config.ray_address:  # Ray's own switch, read when it is imported: it then binds to loopback
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from mosel.online.ray_channel import cluster, ray_channels  # ray is an optional extra

    with cluster(config.ray_address, engine_config):
        yield ray_channels(served, engine_config, embedded=not config.ray_address)


def ask_of(config: ServeConfig, engine_config: EngineConfig) -> Ask:
    """Return whom to ask for devices when workers are added; `channels_of` holds what that stands on."""
    if config.engine == "local":
        return ask_nobody
    from mosel.online.ray_channel import ask_for_nodes  # ray is an optional extra

    return ask_for_nodes(engine_config)


def check_words(config: ServeConfig) -> None:
    """Check what is one of a few words.

    Raises:
        UsageError: no model is named, or the policy, the engine or how to log is not known.
    """
    if not config.models:
        raise UsageError("no model to serve; give a zoo name like av-digits, or package.module:object")
    words = (
        ("policy", config.policy, POLICIES),
        ("engine", config.engine, ENGINES),
        ("log format", config.log_format, logs.FORMATS),
        ("log level", config.log_level, logs.LEVELS),
    )
    for name, word, known in words:
        if word not in known:
            raise UsageError(f"{name} {word!r} is not known; expected one of {', '.join(known)}")
    if config.ray_address and config.engine != "ray":
        raise UsageError(f"ray address {config.ray_address!r} is for engine ray; give --engine ray too")


def scheduler_options(config: ServeConfig) -> Options:
    """Return the scheduler's options as the configuration's table `options` gives them.

    Raises:
        UsageError: there is no such option, or its value has the wrong type.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    for name in config.options:
        if name not in known:
            raise UsageError(f"option {name!r} is unknown; expected some of {', '.join(known)}")
    try:
        return msgspec.convert({"lead_ns": LEAD_NS, **config.options}, Options)
    except msgspec.ValidationError as error:
        raise UsageError(f"table `options`: {error}") from error


def _framework(models: Iterable[Model]) -> str:
    return "torch" if any(model.framework == "torch" for model in models) else "numpy"


def _served(models: Mapping[str, Model], config: ServeConfig, device: str, say: Say) -> tuple[ServedModel, ...]:
    names = [model.name for model in models.values()]
    if len(set(names)) != len(config.models):
        raise UsageError(f"models {', '.join(config.models)}: one is named twice; expected each once")
    if config.accuracy and len(names) > 1:
        raise UsageError(
            f"accuracy {config.accuracy}: is of one model, {', '.join(names)} are served; "
            "put accuracies into their profiles: mosel profile MODEL --accuracy FILE"
        )
    given = _given_profiles([Path(path) for path in config.profile], names)
    found = []
    for word, model in models.items():
        profile = _profile_of(word, model, given.get(model.name), config, device, say)
        if config.accuracy:
            profile = with_accuracies(profile, Path(config.accuracy))
        check_claimed(profile)
        found.append(ServedModel(word, model, profile))
    return tuple(found)


def _given_profiles(paths: Sequence[Path], names: Sequence[str]) -> dict[str, Path]:
    """Return the profiles' files by the name of their model."""
    given: dict[str, Path] = {}
    for path in paths:
        name = read_profile(path).profile.model
        if name not in names:
            raise UsageError(
                f"{path}: is a profile of model {name!r}; expected one of {', '.join(names)}: "
                "give that model's own, or leave it out"
            )
        if name in given:
            raise UsageError(f"{path}: is a profile of {name!r}, as is {given[name]}; expected one a model")
        given[name] = path
    return given


def _profile_of(
    word: str, model: Model, path: Path | None, config: ServeConfig, device: str, say: Say
) -> Profile:
    """Return the profile at `path`; without one the cached one; without that a quick one."""
    here = describe(device, model.framework)
    cached = profile_path(model.name, model.version, here, config.threads)
    if path is None and not cached.exists():
        if not (model.trained or config.accuracy):
            raise UsageError(unclaimed(model.name))
        say(
            f"there is no profile of {model.name} on {here.name}: measuring a quick one first, "
            f"kept in {cached}; for a good one: mosel profile {word}"
        )
        settings = Settings(device, threads=config.threads, samples=QUICK_SAMPLES, repeats=QUICK_REPEATS)
        return make_profile(model, settings, cached, say=say)
    source = path or cached
    profile = read_profile(source).profile
    try:
        check_profile_fits(profile, model, here, config.threads)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    return profile
