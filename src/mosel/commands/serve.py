"""`mosel serve`: models over the Open Inference Protocol."""

import os
from contextlib import ExitStack
from pathlib import Path

from mosel.commands.groups import serve_groups
from mosel.commands.serving import (
    check_words,
    device_of,
    engine_config_of,
    engine_of,
    notes_of,
    served_models,
    service_of,
    traces_of,
    with_workers_placed,
)
from mosel.commands.shares import with_groups_named
from mosel.core.build import said
from mosel.core.files import allow_open_files
from mosel.frontend import logs
from mosel.frontend.config import ServeConfig, parse_address, read_config
from mosel.frontend.grpc import GrpcServer
from mosel.frontend.grpc_calls import ServiceAnswers
from mosel.frontend.http import HttpApp
from mosel.frontend.keys import read_keys
from mosel.frontend.metrics import last_words
from mosel.frontend.server import Door, listen, run, url_of


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
    front_doors: int | None = None,
    placement: Path | None = None,
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
        front_doors: how many processes take calls for groups, which are processes too (default: one for all).
        placement: a placement.json of mosel place: which workers have which models; they move with the load.
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
        "front_doors": front_doors,
        "placement": None if placement is None else str(placement),
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
    config = with_groups_named(with_workers_placed(config))
    traces = traces_of(config)
    say = notes_of(config.log_format, quiet)
    allow_open_files()
    keys = read_keys(Path(config.keys)) if config.keys else None
    door = Door(config.connections, config.tls_certificate, config.tls_key)
    door.check()
    if config.front_doors:
        serve_groups(config, door.scheme, say)
        return
    tls = (config.tls_certificate, config.tls_key) if config.tls_certificate and config.tls_key else None
    with ExitStack() as stack:
        stack.enter_context(logs.logging_to_stderr(config.log_format, config.log_level))
        listening = stack.enter_context(listen(parse_address(config.http)))
        engine_config = engine_config_of(config, device_of(config))
        served = served_models(config, engine_config.device, say)
        names = ", ".join(one.model.name for one in served)
        say(f"listening on {url_of(listening, door.scheme)}: loading {names}")
        engine = stack.enter_context(engine_of(config, served, engine_config))
        many = "1 worker" if config.workers == 1 else f"{config.workers} workers"
        url = url_of(listening, door.scheme)
        serving = f"serving {names} on {url} (policy {config.policy}, {many}{said()})"
        service = service_of(config, served, engine, traces)
        beside = (
            GrpcServer(ServiceAnswers(service, keys), parse_address(config.grpc), tls) if config.grpc else None
        )
        try:
            run(HttpApp(service, keys), engine, listening, config.drain_s, say, serving, door, beside)
        finally:
            service.close()
        say(last_words(service.metrics.ended()))
