"""Makes 𝒟: latency, memory and accuracy of every modality combination × batch size × precision (§4.2).

Cells are timed first (`survey.py`), accuracies then measured or taken over (`accuracy.py`), and the table put
together (`table.py`). `refresh` keeps of an existing 𝒟 what still holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from mosel.core.cascades import Cascade
from mosel.core.errors import ModelError
from mosel.core.tables import Mode, Profile, write_profile
from mosel.core.types import mode_name
from mosel.models.base import Model, Samples
from mosel.offline.accuracy import Accuracy
from mosel.offline.cascades import pays
from mosel.offline.recheck import moved_modes
from mosel.offline.samples import load_samples
from mosel.offline.session import Session, session
from mosel.offline.settings import Column, Meter, NoMeter, Say, Settings
from mosel.offline.table import by_column, mode_of
from mosel.runtime.fits import check_profile_fits

Given = Mapping[tuple[str, ...], Accuracy]
MEASURED, GIVEN, NONE = "measured", "given", "none"
"""Where a profile's accuracies come from. For random weights `none` are claimed; 0 stands in their place."""

NO_CASCADES = "no_cascades"
"""The key in `extra` that says why a profile has none."""


def silent(text: str) -> None:
    """Take a note of nothing."""


def make_profile(
    model: Model,
    settings: Settings,
    output: Path | None = None,
    *,
    previous: Profile | None = None,
    given: Given | None = None,
    given_from: str = "",
    say: Say = silent,
    meter: Meter | None = None,
) -> Profile:
    """Measure 𝒟 of a model and, where an output is named, write it there.

    Where the model's weights are random and no accuracies are given, 0 stands in place of each accuracy and
    `extra` says `"accuracy_source": "none"`.

    Args:
        model: what to profile.
        settings: what to measure and how hard.
        output: the profile's file; `output.partial` beside it lets an interrupted run go on.
        previous: a profile whose accuracies are taken over where they still hold.
        given: accuracies by combination that were found elsewhere; nothing is then scored.
        given_from: where they were found, for the profile.
        say: told notes of one line.
        meter: shown how far the run has come.

    Raises:
        UsageError: the model's samples do not fit its declaration, or there is no such device.
        ExecutionError: the model runs in no mode, or returns what it does not declare.
    """
    samples = _samples(model, given)
    with session(model, settings, samples, output, say, meter or NoMeter()) as run:
        known = _given(run, given) if given else _kept(run, previous, say)
        scored = [mode for mode in run.modes if mode not in known]
        known_before = not given and run.model.trained and bool(known)
        run.time(run.columns, scored)
        limits = {mode: run.bench.limit(mode) for mode in run.running()}
        known |= run.score({mode: limit for mode, limit in limits.items() if mode in scored})
        largest = max(limits.values())
        modes = [mode_of(run.bench, mode, known[mode], largest) for mode in limits]
        by_mode = dict(zip(limits, modes, strict=True))
        extra = {
            **_source(run, given_from if given else None),
            **_further(run, known),
            "notes": run.bench.notes,
        }
        cascades, why = _cascades(run, by_mode, previous if known_before else None, say)
        profile = run.profile(modes, tuple(range(1, largest + 1)), extra | why, cascades)
        _write(profile, output, run)
    return profile


def refresh(
    old: Profile,
    model: Model,
    settings: Settings,
    output: Path | None = None,
    *,
    say: Say = silent,
    meter: Meter | None = None,
) -> Profile:
    """Re-check a few cells of each column of `old` and measure anew only the modes where they moved.

    Batch sizes are those of `old`; accuracies are kept while the model's version is the same. The rest is as
    in `make_profile`.

    Raises:
        UsageError: `old` is a profile of another model or device.
        ExecutionError: the model runs in no mode, or returns what it does not declare.
    """
    extra = old.extra or {}
    same = extra.get("version", model.version) == model.version
    largest = old.batch_sizes[-1]
    settings = replace(settings, batch=largest)
    kept = by_column(old)
    samples = load_samples(model)
    with session(model, settings, samples, output, say, meter or NoMeter()) as run:
        check_profile_fits(
            structs.replace(old, extra={**extra, "version": model.version}), model, run.device, settings.threads
        )
        missing = [mode for mode in run.modes if mode not in kept]
        known = _claims(run, old)
        kept_from = old if known and same else None
        scored = [mode for mode in run.modes if mode not in known]
        anew = {*moved_modes(run, kept, say), *missing}
        run.time([column for column in run.columns if column.mode in anew], scored)
        limits = {m: run.bench.limit(m) if m in anew else old.sizes_of(kept[m])[-1] for m in run.running()}
        known |= run.score({mode: limit for mode, limit in limits.items() if mode in scored})
        modes = [
            mode_of(run.bench, mode, known[mode], largest)
            if mode in anew
            else _with_accuracy(kept[mode], known[mode])
            for mode in limits
        ]
        cascades, why = _cascades(run, dict(zip(limits, modes, strict=True)), kept_from, say)
        notes = [*extra.get("notes", ()), *run.bench.notes]
        stays = (
            {"accuracy_source": MEASURED, **extra} if same else {**_source(run, None), **_further(run, known)}
        )
        stays.pop(NO_CASCADES, None)
        profile = run.profile(modes, old.batch_sizes, {**stays, "notes": notes, **why}, cascades)
        _write(profile, output, run)
    return profile


def _samples(model: Model, given: Given | None) -> Samples | None:
    samples = load_samples(model)
    if samples is None and given is None and model.trained:
        raise ModelError(
            f"model {model.name!r}: has no labelled samples to measure accuracy on; give the model `samples`, "
            'or accuracies found elsewhere: --accuracy FILE, a JSON object like {"audio": 0.9}'
        )
    return samples


def _given(run: Session, given: Given) -> dict[Column, Accuracy]:
    return {mode: given[mode.modalities] for mode in run.modes}


def _unclaimed(run: Session) -> dict[Column, Accuracy]:
    return dict.fromkeys(run.modes, Accuracy(0.0, 0.0, 0))


def _claims(run: Session, old: Profile) -> dict[Column, Accuracy]:
    """Return what a refresh need not measure: what `old` says, and that random weights claim nothing."""
    unclaimed = {} if run.model.trained else _unclaimed(run)
    if (old.extra or {}).get("version", run.model.version) != run.model.version:
        return unclaimed
    return unclaimed | {
        column: Accuracy(mode.accuracy, mode.accuracy_low, mode.samples)
        for column, mode in by_column(old).items()
    }


def _source(run: Session, given_from: str | None) -> dict[str, str]:
    if given_from is not None:
        return {"accuracy_source": GIVEN, "accuracy_file": given_from}
    if run.model.trained:
        return {"accuracy_source": MEASURED}
    run.bench.note(f"the weights of {run.model.name} are random: latencies are real, no accuracy is claimed")
    return {"accuracy_source": NONE}


def _further(run: Session, known: Mapping[Column, Accuracy]) -> dict[str, Any]:
    """Return the further metrics for `extra`, by the modes' names in 𝒟; nothing where there are none."""
    several = run.bench.several_precisions
    found = {
        mode_name(mode.modalities, mode.precision if several else ""): dict(accuracy.further)
        for mode, accuracy in known.items()
        if accuracy.further
    }
    return {"metrics": found} if found else {}


def _kept(run: Session, previous: Profile | None, say: Say) -> dict[Column, Accuracy]:
    """Return the accuracies that need no new measurement: same model, weights, samples, device and software."""
    if not run.model.trained:
        return _unclaimed(run)
    extra = (previous.extra or {}) if previous else {}
    if previous is None or run.settings.exhaustive or run.settings.fresh:
        return {}
    if run.model.calibration is not None and not previous.cascades and NO_CASCADES not in extra:
        return {}  # of a time before there were cascades
    same = (
        (previous.model, previous.device, previous.software) == (run.model.name, run.device, run.software)
        and extra.get("version") == run.model.version
        and extra.get("accuracy_source") == MEASURED
        and extra.get("samples_source") == (run.samples.source if run.samples else "")
        and (extra.get("seed") == run.settings.seed or len(run.chosen) == len(run.samples or ()))
    )
    metrics = extra.get("metrics", {})
    found = {
        column: Accuracy(
            mode.accuracy, mode.accuracy_low, mode.samples, metrics.get(previous.name_of(mode), {})
        )
        for column, mode in by_column(previous).items()
        if same and mode.samples == len(run.chosen) and column in run.modes
    }
    if found:
        say(
            f"accuracies are kept from {previous.measured_at} (same version, samples and software; "
            "--fresh measures them anew)"
        )
    return found


def _cascades(
    run: Session, modes: Mapping[Column, Mode], kept_from: Profile | None, say: Say
) -> tuple[tuple[Cascade, ...], dict[str, str]]:
    """Return the cascades, those of `kept_from` that still pay where accuracies are its; if none, why."""
    if kept_from is not None:
        columns = {kept_from.name_of(mode): column for column, mode in by_column(kept_from).items()}
        named = {name: modes[column] for name, column in columns.items() if column in modes}
        found = [
            _timed(run, cascade, columns, modes)
            for cascade in kept_from.cascades
            if all(name in named for name in cascade.stages)
        ]
        paying = tuple(cascade for cascade in found if pays(cascade, named))
        return paying, {key: why for key, why in (kept_from.extra or {}).items() if key == NO_CASCADES}
    cascades, why = run.cascades(modes)
    if why and run.model.calibration is not None:
        say(f"no cascades: {why}")
    return cascades, {NO_CASCADES: why} if why else {}


def _timed(
    run: Session, cascade: Cascade, columns: Mapping[str, Column], modes: Mapping[Column, Mode]
) -> Cascade:
    """A cascade as its stages' modes take now."""
    latency_s = tuple(modes[columns[name]].latency_s for name in cascade.stages)
    rest_s = run.resumed(cascade, columns, modes)
    return structs.replace(cascade, latency_s=latency_s, resumed_s=rest_s)


def _with_accuracy(mode: Mode, accuracy: Accuracy) -> Mode:
    return structs.replace(mode, accuracy=accuracy.mean, accuracy_low=accuracy.low, samples=accuracy.samples)


def _write(profile: Profile, output: Path | None, run: Session) -> None:
    if output is not None:
        write_profile(profile, output)
        run.journal.remove()
