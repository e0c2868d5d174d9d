"""Where experiments are run: profiles, seeds, other processes, a progress bar, and outcomes kept between runs.

An outcome is kept under a digest of the trial, of its profile and of the code that decides it, so that none
outlives a change to what it depends on.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

import mosel
from mosel.core.files import cache_dir, read_bytes, write_atomic
from mosel.core.tables import Profile
from mosel.evaluation.arrivals import Counts
from mosel.evaluation.experiments.trials import Carried, Outcome, Search, Trial, run_search, run_trial

Told = Callable[[int, int], None]
"""Is told how many trials are done and how many there are."""


def _unheard(done: int, total: int) -> None:
    """Tell nobody."""


DECIDING = ("core", "evaluation", "online", "solve")

Asked = TypeVar("Asked", Trial, Search)
Found = TypeVar("Found", Outcome, Carried)


@dataclass(frozen=True, slots=True)
class Lab:
    """What an experiment may use.

    Attributes:
        profiles: by the name of their file.
        sha256: of each profile's file.
        seeds: how many workloads each point of a figure is the median of.
        duration_s: of each workload, at most.
        quick: take fewer points.
        pool: other processes, in which trials run; without it they run here, one after the other.
        keep: whether outcomes are kept and kept ones are used.
        trace: requests of each second of a recorded series, where one is given.
        told: is told of progress.
        most_requests: about so many make a workload of a fast model, which is shorter then.
        least_s: how long a workload is at least.
        left_out: names of profiles that are not simulated, and why.
    """

    profiles: Mapping[str, Profile]
    sha256: Mapping[str, str]
    seeds: int = 5
    duration_s: float = 60.0
    quick: bool = False
    pool: Executor | None = None
    keep: bool = True
    trace: Counts | None = None
    told: Told = _unheard
    most_requests: int = 2_000
    least_s: float = 4.0
    left_out: Mapping[str, str] = field(default_factory=dict)

    def trials(self, asked: Sequence[tuple[str, Trial]]) -> list[Outcome]:
        """Return the outcome of each trial, which stands beside the name of its profile."""
        return self._all(run_trial, asked, Outcome)

    def searches(self, asked: Sequence[tuple[str, Search]]) -> list[Carried]:
        """Return what each search finds."""
        return self._all(run_search, asked, Carried)

    def _all(
        self, run: Callable[[Asked, Profile], Found], asked: Sequence[tuple[str, Asked]], kind: type[Found]
    ) -> list[Found]:
        found: dict[int, Found] = {}
        for index, (name, each) in enumerate(asked):
            if (kept := self._kept(self._path(name, each), kind)) is not None:
                found[index] = kept
        missing = [index for index in range(len(asked)) if index not in found]
        self.told(len(found), len(asked))
        for index, outcome in zip(missing, self._run(run, [asked[i] for i in missing]), strict=True):
            found[index] = outcome
            if self.keep:
                write_atomic(self._path(*asked[index]), msgspec.json.encode(outcome))
            self.told(len(found), len(asked))
        return [found[index] for index in range(len(asked))]

    def _run(
        self, run: Callable[[Asked, Profile], Found], asked: Sequence[tuple[str, Asked]]
    ) -> Iterator[Found]:
        items, tables = [each for _, each in asked], [self.profiles[name] for name, _ in asked]
        if self.pool is None:
            yield from map(run, items, tables)
        else:
            yield from self.pool.map(run, items, tables)

    def _path(self, name: str, asked: Trial | Search) -> Path:
        parts = (code_digest(), self.sha256[name], type(asked).__name__, msgspec.json.encode(asked).decode())
        return cache_dir() / "reproduce" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()}.json"

    def _kept(self, path: Path, kind: type[Found]) -> Found | None:
        if not self.keep or not path.exists():
            return None
        try:
            return msgspec.json.decode(read_bytes(path), type=kind)
        except msgspec.DecodeError:
            return None  # cut short by another hand: it is computed anew and written over


@cache
def code_digest() -> str:
    """Return the SHA-256 of the package's code that decides an outcome."""
    root = Path(mosel.__file__).parent
    files = sorted(path for part in DECIDING for path in (root / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
