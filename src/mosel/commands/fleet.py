"""Which workers a command is about: `--workers N`, all alike, or `--worker PROFILE,…` once for each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mosel.core.errors import UsageError
from mosel.core.tables import Profile, read_profile
from mosel.evaluation.workload import Workload


@dataclass(frozen=True, slots=True)
class Fleet:
    """A profile of every model, and each worker's own profiles, by model."""

    models: Mapping[str, Profile]
    workers: Sequence[Mapping[str, Profile]]

    def idle_models(self, jobs: Workload) -> list[str]:
        """Return the models that no job asks for."""
        return sorted(self.models.keys() - {job.model for job in jobs.jobs})


def read_fleet(paths: Iterable[Path], workers: int | None, worker: Sequence[str]) -> Fleet:
    """Read every profile once.

    Args:
        paths: the profile of each model; with `worker` there need be none.
        workers: how many workers there are, each with all of `paths`; 1 if not given.
        worker: comma-separated profiles, one text for each worker, instead.

    Raises:
        UsageError: both ways are mixed, a worker has two profiles of a model, or none has one of a model that
            `paths` names; FileError as `read_profile`.
    """
    read = cache(lambda path: read_profile(path).profile)
    models = _by_model(((path, read(path)) for path in paths), "")
    if not worker:
        count = 1 if workers is None else workers
        if count < 1:
            raise UsageError(f"{count} workers; expected at least 1")
        return Fleet(models, [models] * count)
    if workers is not None:
        raise UsageError("--workers and --worker contradict each other; give --worker once for each worker")
    made = {
        text: _by_model(((path, read(path)) for path in _paths(text)), f"--worker {text}: ") for text in worker
    }
    carried = {name: profile for profiles in made.values() for name, profile in profiles.items()}
    if idle := sorted(models.keys() - carried.keys()):
        raise UsageError(f"model {idle[0]!r} runs on no worker; add its profile to a --worker, or leave it out")
    return Fleet(models | carried, [made[text] for text in worker])


def _paths(text: str) -> list[Path]:
    names = text.split(",")
    if "" in names:
        raise UsageError(f"--worker {text!r}; expected PROFILE or PROFILE,PROFILE,… without spaces")
    return [Path(name) for name in names]


def _by_model(profiles: Iterable[tuple[Path, Profile]], where: str) -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    for path, profile in profiles:
        if profile.model in found:
            raise UsageError(
                f"{where}{path}: model {profile.model!r} has a profile already; give one for each model"
            )
        found[profile.model] = profile
    return found
