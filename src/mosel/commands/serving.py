"""What serving stands on, whatever processes do it: models with their profiles, options, and who is told."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.tables import Profile, read_profile
from mosel.frontend import logs
from mosel.frontend.accuracies import check_claimed, unclaimed, with_accuracies
from mosel.frontend.config import ENGINES, ServeConfig
from mosel.frontend.quotas import Quotas, Shelf
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.models.registry import find
from mosel.offline.profiler import make_profile
from mosel.offline.settings import Settings
from mosel.online.autoscaling import Ask, ask_nobody
from mosel.online.channel import ChannelFactory
from mosel.online.engine import Engine
from mosel.online.events import Scheduling
from mosel.online.moving import Moving, Pace
from mosel.online.placed import Beside, placer_of, read_placement
from mosel.online.policies import POLICIES, Options
from mosel.online.serving import (
    LEAD_NS,
    EngineConfig,
    Holdings,
    ServedModel,
    process_channels,
    scheduler_of,
    server_cores,
)
from mosel.online.watched_channel import Patience
from mosel.runtime.device import default_device, describe, pin, profile_path
from mosel.runtime.fits import check_profile_fits

if TYPE_CHECKING:
    from mosel.frontend.traces import Traces

Say = Callable[[str], None]

QUICK_SAMPLES, QUICK_REPEATS = 500, 5
"""What a quick profile measures: enough to serve with until `mosel profile` has made a good one."""


def engine_config_of(config: ServeConfig, device: str, first: int = 0, on_machine: int = 0) -> EngineConfig:
    """Return how the engine serves; the workers before its own, and all, are those of several groups.

    Raises:
        UsageError: the options are not right.
    """
    return EngineConfig(
        config.workers,
        config.policy,
        config.seed,
        device,
        config.threads,
        scheduler_options(config),
        Patience(hang_least_s=config.hang_s),
        config.queue_s,
        config.groups,
        config.most_workers,
        first,
        on_machine,
    )


@contextmanager
def engine_of(
    config: ServeConfig,
    served: Sequence[ServedModel],
    engine_config: EngineConfig,
    scheduler: Scheduling | None = None,
    together: Callable[[Ask], Ask] = lambda ask: ask,
) -> Iterator[Engine]:
    """Hold what the workers stand on, and yield the engine on top of it.

    `together` makes of what asks for this engine's devices what asks for those of others too.

    Raises:
        UsageError: as `channels_of` and `Engine`.
    """
    with ExitStack() as stack:
        holdings = Holdings(served)
        if config.placement:
            scheduler, holdings = stack.enter_context(_placed(config, served, engine_config))
        channels = stack.enter_context(channels_of(config, served, engine_config, holdings))
        ask = together(ask_of(config, engine_config))
        engine = Engine(
            served, engine_config, scheduler=scheduler, channels=channels, ask=ask, holdings=holdings
        )
        pin(server_cores(engine_config))
        yield engine


def service_of(
    config: ServeConfig,
    served: Sequence[ServedModel],
    engine: Engine,
    traces: "Traces | None" = None,
    prefix: str = "j",
    shelf: Shelf | None = None,
) -> Service:
    """Return the handlers; `prefix` is what jobs' ids begin with, `shelf` where shared quotas stand."""
    settings: dict[str, str | int] = {"policy": config.policy, "workers": config.workers, "seed": config.seed}
    watchers = [logs.log_ended] if logs.logs_jobs(config.log_level) else []
    if traces is not None:
        engine.watch_decisions(traces.decided)
        watchers.append(traces.ended)
    quotas = Quotas(config.quotas, shelf)
    return Service(
        engine, served, config.limits, settings, config.tenants, quotas, watchers, config.shadow_share, prefix
    )


def notes_of(log_format: str, quiet: bool) -> Say:
    """Return what says a note on stderr."""
    if log_format == logs.JSON:
        return logs.notes(quiet=quiet)
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False).print


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


def device_of(config: ServeConfig) -> str:
    """Return what workers run on: what is configured, else what is there."""
    return config.device or default_device(_framework(find(word) for word in config.models))


def _framework(models: Iterable[Model]) -> str:
    return "torch" if any(model.framework == "torch" for model in models) else "numpy"


def served_models(config: ServeConfig, device: str, say: Say) -> tuple[ServedModel, ...]:
    """Return the models that are served, with their profiles; one that is missing is measured quickly.

    Raises:
        UsageError: a model or a profile is not there, or they do not belong together.
    """
    models = {word: find(word) for word in config.models}
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


def traces_of(config: ServeConfig) -> "Traces | None":
    """Return what makes spans, if any are wanted.

    Raises:
        UsageError: nothing would export them.
        ImportError: OpenTelemetry is not installed.
    """
    if not config.traces:
        return None
    if not config.traces:
        return None
    from mosel.frontend.traces import Traces, configured_tracer  # opentelemetry is an optional extra

    return Traces(configured_tracer())


def with_workers_placed(config: ServeConfig) -> ServeConfig:
    """Return the configuration with as many workers as are placed, if models are.

    Raises:
        UsageError: the placement cannot be read, or does not go with the rest.
    """
    if not config.placement:
        return config
    placed = len(read_placement(Path(config.placement)).workers)
    if config.workers not in (1, placed):
        raise UsageError(f"{config.placement}: is of {placed} workers; leave out --workers {config.workers}")
    if config.front_doors or config.most_workers:
        raise UsageError("with --placement there are as many workers as are placed, and no front doors beside")
    return msgspec.structs.replace(config, workers=placed)


@contextmanager
def _placed(
    config: ServeConfig, served: Sequence[ServedModel], engine_config: EngineConfig
) -> Iterator[tuple[Scheduling, Holdings]]:
    """Yield what decides, and moves models, and what workers hold.

    Raises:
        UsageError: the placement is of other devices or models.
    """
    placer = placer_of(read_placement(Path(config.placement)), [one.profile for one in served])
    start = [worker.profiles for worker in placer.workers]
    beside, pace = Beside(placer), Pace(to_ns(config.placement_every_s), None)
    try:
        decides = scheduler_of(served, engine_config, start)
        yield Moving(decides, start, beside, pace), Holdings(served, start)
    finally:
        beside.close()


@contextmanager
def channels_of(
    config: ServeConfig, served: Sequence[ServedModel], engine_config: EngineConfig, holdings: Holdings
) -> Iterator[ChannelFactory]:
    """Hold what the workers stand on, and yield what makes them.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or it has too few devices.
    """
    if config.engine == "local":
        yield process_channels(served, engine_config, holdings)
        return
    with ray_cluster(config, engine_config):
        from mosel.online.ray_channel import ray_channels  # ray is an optional extra

        yield ray_channels(served, engine_config, holdings, embedded=not config.ray_address)


@contextmanager
def ray_cluster(config: ServeConfig, engine_config: EngineConfig) -> Iterator[str]:
    """Be connected to a Ray cluster, one that is started here if none is named, and yield its address.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or it has too few devices.
    """
    if not config.ray_address:  # Ray's own switch, read when it is imported: it then binds to loopback
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from mosel.online.ray_channel import cluster  # ray is an optional extra

    with cluster(config.ray_address, engine_config) as address:
        yield address


def ask_of(config: ServeConfig, engine_config: EngineConfig) -> Ask:
    """Return whom to ask for devices when workers are added; `channels_of` holds what that stands on."""
    if config.engine == "local":
        return ask_nobody
    from mosel.online.ray_channel import ask_for_nodes  # ray is an optional extra

    return ask_for_nodes(engine_config)
