"""What an engine serves and how: models with their profiles, and what each worker process is told of them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mosel.core.arrays import latency_table
from mosel.core.clock import NS_PER_MS
from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import Batch
from mosel.models.base import Model
from mosel.online import wire
from mosel.online.answers import Live
from mosel.online.autoscale import Autoscaler, Rules
from mosel.online.autoscaling import Ask, Autoscaling
from mosel.online.channel import Channel, ChannelFactory, Report, Work
from mosel.online.events import Event, Scheduling
from mosel.online.fleet import Fleet
from mosel.online.group import Place
from mosel.online.layout import Layout
from mosel.online.member import Member
from mosel.online.policies import DEFAULT, Options
from mosel.online.process_channel import ProcessChannel
from mosel.online.scheduler import Scheduler
from mosel.online.staff import Staff
from mosel.online.watched_channel import Patience
from mosel.runtime.device import worker_cores

LEAD_NS = 2 * NS_PER_MS
"""Twice what epoll's timers are coarse: the next batch is with the worker when it becomes free."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is served: `word` is how workers find it, `profile` its 𝒟."""

    word: str
    model: Model
    profile: Profile

    def __post_init__(self) -> None:
        if self.profile.model != self.model.name:
            raise UsageError(
                f"a profile of model {self.profile.model!r} was given for {self.model.name!r}; "
                f"make one with: mosel profile {self.word}"
            )


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine serves.

    Attributes:
        workers: how many worker processes; on `cuda` each has a GPU of its own.
        policy: a name in `POLICIES`.
        seed: for policies that draw lots.
        device: `cpu`, `cuda`, or `cuda:1` and the like.
        threads: CPU threads of each worker.
        options: tuning of the scheduler.
        patience: how long a worker is waited for.
        queue_s: how many seconds of work each worker may have before it; beyond that jobs are refused.
        groups: how many groups the workers are dealt out to, each with a scheduler of its own.
        most: up to how many workers are added as the load grows, and removed again down to `workers`; 0 for as
            many as there are.
        first: how many workers of other groups come before on this machine; they have the first cores and GPUs.
        on_machine: how many there are on it in all; 0: none but these.
    """

    workers: int = 1
    policy: str = DEFAULT
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    options: Options = field(default_factory=lambda: Options(lead_ns=LEAD_NS))
    patience: Patience = field(default_factory=Patience)
    queue_s: float = 600.0
    groups: int = 1
    most: int = 0
    first: int = 0
    on_machine: int = 0

    @property
    def places(self) -> int:
        """Up to how many workers there may be."""
        return max(self.workers, self.most)


class Holdings:
    """Which models each worker holds: all, unless it was said otherwise.

    Args:
        models: what is served.
        workers: the profiles of what each worker holds, by model.
    """

    def __init__(self, models: Sequence[ServedModel], workers: Sequence[Mapping[str, Profile]] = ()) -> None:
        self._models = models
        self._of = dict(enumerate(workers))

    def of(self, worker: int) -> Sequence[ServedModel]:
        """Return the models of a worker, with the profiles of what it holds of them."""
        if worker not in self._of:
            return self._models
        held = self._of[worker]
        return [replace(one, profile=held[one.model.name]) for one in self._models if one.model.name in held]

    def put(self, worker: int, profiles: Mapping[str, Profile]) -> None:
        """Let a worker that is started from now on hold these."""
        self._of[worker] = profiles


@dataclass(frozen=True, slots=True)
class ModeTensors:
    """A mode as the engine needs it: its modalities, precision and the names of the tensors they arrive in."""

    modalities: tuple[str, ...]
    precision: str
    tensors: tuple[str, ...]


def served_modes(served: ServedModel) -> Mapping[str, ModeTensors]:
    """Return every mode of a model's profile by name."""
    profile, model = served.profile, served.model
    return {
        name: ModeTensors(
            mode.modalities,
            profile.precision_of(mode),
            tuple(tensor.name for modality in mode.modalities for tensor in model.modality(modality).inputs),
        )
        for name, mode in zip(profile.mode_names, profile.modes, strict=True)
    }


def work_of(batch: Batch, modes: Mapping[str, ModeTensors], jobs: Sequence[Live]) -> Work:
    """Return a batch with what it runs on.

    Args:
        batch: as the scheduler sent it.
        modes: of its model.
        jobs: one for each of its parts.
    """
    mode, first = modes[batch.mode], modes.get(batch.resumed)
    pairs = list(zip(jobs, batch.parts, strict=True))
    tensors = {name: [live.tensors.rows(name, part.requests) for live, part in pairs] for name in mode.tensors}
    return Work(batch, mode.modalities, mode.precision, tensors, first.modalities if first else ())


def scheduler_of(
    models: Sequence[ServedModel],
    config: EngineConfig,
    held: Sequence[Mapping[str, Profile]] | None = None,
) -> Scheduling:
    """Return what decides: a scheduler, or a fleet where there are groups.

    Args:
        models: what is served.
        config: how.
        held: the profiles of what each worker holds, by model; all hold all models if it is not said.

    Raises:
        UsageError: as `Scheduler` and `Fleet`.
    """
    workers = config.places if held is None else held
    profiles = {served.model.name: served.profile for served in models}
    policy, seed, options = config.policy, config.seed, config.options
    if config.groups == 1:
        return Scheduler(profiles, workers=workers, policy=policy, seed=seed, options=options)
    layout = Layout(config.groups)
    return Fleet(profiles, workers=workers, layout=layout, policy=policy, seed=seed, options=options)


def member_of(models: Sequence[ServedModel], config: EngineConfig, index: int, groups: int) -> Member:
    """Return what decides in one group among others, whose workers are this engine's.

    Raises:
        UsageError: as `Scheduler`.
    """
    profiles = {served.model.name: served.profile for served in models}
    policy, seed, options = config.policy, config.seed, config.options
    alone = Fleet(profiles, workers=config.places, policy=policy, seed=seed, options=options)
    return Member(alone, Place(index, groups, range(config.first, config.first + config.places)))


def staff_of(
    models: Sequence[ServedModel],
    config: EngineConfig,
    channels: ChannelFactory | None,
    holdings: Holdings | None,
    report: Report,
    tell: Callable[[Event], None],
) -> Staff:
    """Return the workers: by default processes that hold all models."""
    held = holdings or Holdings(models)
    make = channels or process_channels(models, config, held)
    return Staff(make, config.places, config.workers, report, tell, held.put)


def autoscaling_of(
    models: Sequence[ServedModel], config: EngineConfig, staff: Staff, now_ns: Callable[[], int], ask: Ask
) -> Autoscaling | None:
    """Return what adds and removes workers; None if there are always as many."""
    if config.most <= config.workers:
        return None
    scaler = Autoscaler((served.profile for served in models), Rules(config.workers, config.most))
    return Autoscaling(scaler, staff, now_ns, ask)


def process_channels(
    models: Sequence[ServedModel], config: EngineConfig, holdings: Holdings | None = None
) -> ChannelFactory:
    """Return what makes worker processes, each with CPU cores (and on `cuda` a GPU) of its own."""
    patience = patience_of(models, config)
    held = holdings or Holdings(models)

    def make(worker: int, report: Report) -> Channel:
        return ProcessChannel(report, start_message(worker, held.of(worker), config), patience)

    return make


def patience_of(models: Sequence[ServedModel], config: EngineConfig) -> Patience:
    """Return how long workers are waited for, given what their batches take by the models' profiles."""
    return replace(config.patience, p99_ns=_p99_of([served.profile for served in models]))


def _p99_of(profiles: Sequence[Profile]) -> Callable[[Batch], int]:
    tables = {profile.model: latency_table(profile, p99=True) for profile in profiles}
    modes = {profile.model: profile.mode_names for profile in profiles}

    def p99_ns(batch: Batch) -> int:
        mode = modes[batch.model].index(batch.mode)
        return int(tables[batch.model][mode, batch.bucket, batch.size])

    return p99_ns


def start_message(worker: int, models: Sequence[ServedModel], config: EngineConfig) -> wire.Start:
    """Return what a worker is told when it starts.

    Raises:
        UsageError: more threads are asked for than there are CPU cores.
    """
    place = config.first + worker
    device = f"cuda:{place}" if config.device == "cuda" else config.device
    cores = worker_cores(place, config.threads, available_cores())
    return wire.Start(
        worker, device, config.threads, cores, server_cores(config), tuple(map(_worker_model, models))
    )


def server_cores(config: EngineConfig) -> tuple[int, ...]:
    """Return the CPU cores that no worker's device thread uses: for the server, and for preprocessing."""
    available = available_cores()
    workers = range(config.on_machine or config.places)
    taken = {core for worker in workers for core in worker_cores(worker, config.threads, available)}
    return tuple(core for core in available if core not in taken) or available


def available_cores() -> tuple[int, ...]:
    """Return the CPU cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(os.getpid())))


def _worker_model(served: ServedModel) -> wire.WorkerModel:
    profile = served.profile
    modes = tuple(
        wire.ServedMode(mode.modalities, profile.precision_of(mode), profile.sizes_of(mode))
        for mode in profile.modes
    )
    return wire.WorkerModel(served.word, served.model.name, modes)
