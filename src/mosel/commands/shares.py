"""What each group of a server is: its share of the workers, on which devices, by which profiles.

Groups are alike unless the configuration says of each what it is (`[[group]]`). Workers keep to cores and GPUs
of their own, across groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mosel.commands.serving import Say, device_of, served_models
from mosel.core.errors import UsageError
from mosel.frontend.config import ServeConfig
from mosel.online.layout import Layout
from mosel.online.serving import ServedModel


@dataclass(frozen=True, slots=True)
class Share:
    """A group of a server.

    Attributes:
        config: how it serves, as if it were alone.
        served: the models, with its own profiles.
        first: before which worker on this machine its first one comes, in workers like its own.
        on_machine: how many of these all groups together take the place of.
    """

    config: ServeConfig
    served: tuple[ServedModel, ...]
    first: int
    on_machine: int

    @property
    def models(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(one.model.name for one in self.served)


def with_groups_named(config: ServeConfig) -> ServeConfig:
    """Return the configuration with as many groups and workers as it names, if it names groups.

    Raises:
        UsageError: that does not go with the rest.
    """
    if not config.group:
        return config
    workers, groups = sum(one.workers for one in config.group), len(config.group)
    if config.groups not in (1, groups) or config.workers not in (1, workers):
        raise UsageError(
            f"{groups} tables `group` with {workers} workers; leave out --groups {config.groups} and "
            f"--workers {config.workers}"
        )
    if not config.front_doors or config.most_workers or config.placement:
        raise UsageError(
            "tables `group` are of groups that are processes, with workers that stay: give --front-doors, and "
            "neither --most-workers nor --placement"
        )
    return msgspec.structs.replace(config, groups=groups, workers=workers)


def shares_of(config: ServeConfig, say: Say) -> list[Share]:
    """Return what each group is.

    Raises:
        UsageError: a model or a profile is not there, or there are fewer workers than groups.
    """
    configs = _named(config) if config.group else _alike(config)
    served: dict[tuple[object, ...], tuple[ServedModel, ...]] = {}
    found = []
    for index, own in enumerate(configs):
        kind = own.device, own.threads, own.profile
        if kind not in served:
            served[kind] = served_models(own, device_of(own), say)
        first, on_machine = _before(configs[:index], own), _before(configs, own)
        found.append(Share(own, served[kind], first, on_machine))
    return found


def _alike(config: ServeConfig) -> list[ServeConfig]:
    layout = Layout(config.groups)
    most = layout.shares(max(config.workers, config.most_workers))
    return [
        msgspec.structs.replace(config, workers=len(own), most_workers=len(room) if config.most_workers else 0)
        for own, room in zip(layout.shares(config.workers), most, strict=True)
    ]


def _named(config: ServeConfig) -> list[ServeConfig]:
    return [
        msgspec.structs.replace(
            config,
            workers=one.workers,
            device=one.device or config.device,
            threads=one.threads or config.threads,
            profile=one.profile or config.profile,
        )
        for one in config.group
    ]


def _before(configs: Sequence[ServeConfig], own: ServeConfig) -> int:
    """Return how many workers like `own`'s have the place of these groups' workers on such a device."""
    like = [one for one in configs if device_of(one) == device_of(own)]
    cores = sum(max(one.workers, one.most_workers) * one.threads for one in like)
    return math.ceil(cores / own.threads)
