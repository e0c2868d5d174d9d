"""One profiling run: the bench, its journal, the samples, and what is told to the person who waits."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mosel.core.cascades import Cascade
from mosel.core.clock import monotonic_ns, to_s
from mosel.core.errors import ExecutionError
from mosel.core.tables import PROFILE_FORMAT, Mode, Profile
from mosel.core.types import mode_name
from mosel.models.base import Model, Samples
from mosel.offline.accuracy import Accuracy, Judged, judge, summary_of
from mosel.offline.cascades import Subject, find_cascades, likely
from mosel.offline.journal import Journal, journal_path
from mosel.offline.resuming import Stages, resumed_s, scaled
from mosel.offline.samples import Pool, choose, load_calibration, preparation_s
from mosel.offline.settings import Cell, Column, Meter, Say, Settings, columns_of
from mosel.offline.survey import Effort, Survey
from mosel.offline.table import NOISY_RATIO, NOISY_SHARE, noisy_share
from mosel.offline.timing import Bench
from mosel.runtime.device import describe, pinned, software, worker_cores

SHOW_EVERY_NS = 200_000_000
LEAST_POOL = 64


@contextmanager
def session(
    model: Model, settings: Settings, samples: Samples | None, output: Path | None, say: Say, meter: Meter
) -> Iterator["Session"]:
    """Yield a session on the cores that a worker will use.

    Its journal stands beside `output` until `finish` is called; an interruption leaves it there.

    Raises:
        UsageError: there is no such device, or it has too few cores.
        ExecutionError: the model cannot be loaded at any precision.
    """
    with pinned(worker_cores(0, settings.threads)):
        opened = Session(model, settings, samples, output, say, meter)
        try:
            yield opened
        finally:
            opened.journal.close()


class Session:
    """One profiling run. Made by `session`."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        samples: Samples | None,
        output: Path | None,
        say: Say,
        meter: Meter,
    ) -> None:
        self.model, self.settings, self.samples = model, settings, samples
        self.device = describe(settings.device, model.framework)
        self.software = software(model.framework)
        self.columns = columns_of(model, self.device.kind)
        self.modes = tuple(dict.fromkeys(column.mode for column in self.columns))
        self.chosen = choose(samples, settings.samples, settings.seed) if samples else np.arange(0)
        pool = Pool(model, samples, max(LEAST_POOL, 2 * settings.largest_batch(model)), settings.seed)
        self.journal = Journal(journal_path(output) if output else None, self._key())
        if self.journal.entries:
            say("going on from where an earlier run was interrupted")
        self.bench = Bench(model, settings, self.columns, pool, self.journal, say)
        self._say, self._meter, self._shown_ns = say, meter, 0
        self._seconds: dict[str, float] = {}
        self._judged: dict[Column, Judged] = {}

    def time(self, columns: Collection[Column], scored: Collection[Column]) -> None:
        """Time the cells of these columns; `scored` are the modes whose accuracy will be measured after."""
        started_ns = monotonic_ns()

        def tick(left_ns: Callable[[], float]) -> None:
            self._show("timing", lambda: left_ns() + self._scoring_ns(scored, len(self.chosen)))

        survey = Survey(self.bench, columns, Effort(self.settings.repeats), tick)
        survey.every() if self.settings.exhaustive else survey.smart()
        self._seconds["timing"] = to_s(monotonic_ns() - started_ns)
        self._warn_if_noisy()

    def score(self, largest: Mapping[Column, int]) -> dict[Column, Accuracy]:
        """Measure the accuracy of these modes in batches of the size given."""
        started_ns, busy_ns = monotonic_ns(), self.bench.busy_ns
        total, done = len(largest) * len(self.chosen), 0

        def tick(samples: int) -> None:
            nonlocal done
            done += samples
            self._show("accuracy", lambda: (self.bench.busy_ns - busy_ns) * (total - done) / done)

        if self.samples is None or not largest:
            return {}
        self._judged = judge(self.model, self.samples, self.chosen, largest, self.bench.run, self.journal, tick)
        self._seconds["accuracy"] = to_s(monotonic_ns() - started_ns)
        return {mode: summary_of(self.model, judged) for mode, judged in self._judged.items()}

    def cascades(self, modes: Mapping[Column, Mode]) -> tuple[tuple[Cascade, ...], str]:
        """Return the cascades of modes that were all scored in this run; if there is none, why in one line."""
        if not self._judged.keys() >= modes.keys():
            return (), "accuracies were not measured in this run"
        samples = load_calibration(self.model)
        if samples is None:
            return (), "the model has no samples to calibrate on (`calibration`)"
        started_ns = monotonic_ns()
        chosen = choose(samples, self.settings.samples, self.settings.seed)
        largest = {mode: self.bench.limit(mode) for mode in modes}
        found = judge(
            self.model, samples, chosen, largest, self.bench.run, self.journal, lambda _: None, "calibration"
        )
        named = self._named(modes)
        subjects = {name: Subject(modes[c], found[c], self._judged[c]) for name, c in named.items()}
        kept = find_cascades(subjects, self._resumed(named, modes, likely(subjects)))
        self._seconds["cascades"] = to_s(monotonic_ns() - started_ns)
        return kept

    def resumed(self, cascade: Cascade, named: Mapping[str, Column], modes: Mapping[Column, Mode]) -> Any:
        """Return what a cascade's last stage takes by now where features of the first are kept.

        It is the same part of its mode's latency as it was; what is not known is timed.
        """
        if cascade.resumed_s is None:
            return self._resumed(named, modes, [cascade.stages]).get(cascade.stages)
        return scaled(cascade.resumed_s, cascade.latency_s[1], modes[named[cascade.stages[1]]].latency_s)

    def _resumed(
        self, named: Mapping[str, Column], modes: Mapping[Column, Mode], wanted: Collection[Stages]
    ) -> dict[Stages, Any]:
        by_name = {name: modes[column] for name, column in named.items()}
        return resumed_s(self.bench, self.model, named, by_name, wanted, self.settings.repeats)

    def _named(self, modes: Mapping[Column, Mode]) -> dict[str, Column]:
        several = len({mode.precision for mode in modes}) > 1
        return {mode_name(c.modalities, c.precision if several else ""): c for c in modes}

    def profile(
        self,
        modes: Sequence[Mode],
        sizes: Sequence[int],
        extra: Mapping[str, Any],
        cascades: tuple[Cascade, ...] = (),
    ) -> Profile:
        """Return 𝒟 from its columns, with all that says how it was measured."""
        return Profile(
            format=PROFILE_FORMAT,
            model=self.model.name,
            modalities=self.model.modality_names,
            metric=self.model.metric,
            batch_sizes=tuple(sizes),
            modes=tuple(modes),
            device=self.device,
            precision=self.model.precisions_on(self.device.kind)[0],
            software=self.software,
            measured_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            length_buckets=self.model.length_buckets or None,
            preprocess_s=preparation_s(self.model, self.samples, self.chosen) or None,
            cascades=cascades,
            extra={**extra, **self._conditions()},
        )

    def running(self) -> list[Column]:
        """Return the modes that run at batch 1 at least, at every length.

        Raises:
            ExecutionError: none does.
        """
        found = [mode for mode in self.modes if self.bench.limit(mode)]
        if not found:
            raise ExecutionError(f"model {self.model.name!r} runs in no mode: {self.bench.notes[-1]}")
        return found

    def _key(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "version": self.model.version,
            "columns": [str(column) for column in self.columns],
            "length_buckets": self.model.length_buckets,
            "device": [self.device.kind, self.device.name],
            "software": self.software,
            "threads": self.settings.threads,
            "batch": self.settings.largest_batch(self.model),
            "samples": len(self.chosen),
            "source": self.samples.source if self.samples else "",
            "seed": self.settings.seed,
        }

    def _conditions(self) -> dict[str, Any]:
        return {
            "version": self.model.version,
            "threads": self.settings.threads,
            "seed": self.settings.seed,
            "repeats": self.settings.repeats,
            "sampling": "exhaustive" if self.settings.exhaustive else "smart",
            "samples_source": self.samples.source if self.samples else "",
            "seconds": {doing: round(seconds, 3) for doing, seconds in self._seconds.items()},
            **({"replayed": replayed} if (replayed := self._replayed()) else {}),
        }

    def _replayed(self) -> dict[str, list[int]]:
        """Return by mode at which batch sizes, of those that were run, a GPU replays what it recorded."""
        sizes: dict[str, list[int]] = {}
        for cell in sorted(self.bench.replayed, key=lambda cell: cell.size):
            sizes.setdefault(str(cell.column), []).append(cell.size)
        return sizes

    def _warn_if_noisy(self) -> None:
        # Requests differ, and so do their latencies on the quietest machine: only where timings scatter is it
        # found out whether those of one and the same batch do.
        if noisy_share(self.bench.took_ns.values()) <= NOISY_SHARE:
            return
        share = noisy_share(self.bench.again())
        if share > NOISY_SHARE:
            self.bench.note(
                "the machine was too noisy to trust these latencies: the 99th percentile of one and the same "
                f"batch is over {NOISY_RATIO} times its median in {share:.0%} of the modes; stop what else "
                "runs here and measure again"
            )

    def _scoring_ns(self, modes: Collection[Column], samples: float) -> float:
        first = [self.bench.columns(mode)[0] for mode in modes]
        cells = [Cell(column, self.bench.limit(column)) for column in first]
        return sum(
            samples / cell.size * self.bench.median_ns(cell) for cell in cells if cell in self.bench.took_ns
        )

    def _show(self, doing: str, left_ns: Callable[[], float]) -> None:
        now_ns = monotonic_ns()
        if now_ns - self._shown_ns >= SHOW_EVERY_NS:
            self._shown_ns = now_ns
            done_s = to_s(self.bench.busy_ns)
            self._meter.show(doing, done_s, done_s + left_ns() / 1e9)
