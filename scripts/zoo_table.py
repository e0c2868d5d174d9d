"""Write the accuracies of the small networks into `docs/models.md`, from the profiles that are committed.

Run it after a profile in `profiles/` was made anew: `.venv/bin/python scripts/zoo_table.py`
"""

from pathlib import Path

from mosel.core.errors import FileError
from mosel.core.files import write_atomic
from mosel.core.tables import Mode, Profile, read_profile

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- accuracies:begin -->", "<!-- accuracies:end -->"
NAMES = ("tvlt-small", "vilt-small", "selfmm-small", "avhubert-small", "tbn-small")


def block() -> str:
    """Return the table of the committed profiles, markers included."""
    profiles = [read_profile(path).profile for name in NAMES if (path := profile_of(name)).exists()]
    rows = [line for profile in profiles for line in _rows(profile)]
    heading = ["| model, metric | mode | accuracy | at least | ms at 1 |", "| --- | --- | ---: | ---: | ---: |"]
    return "\n".join([BEGIN, *heading, *rows, "", _caption(profiles), END])


def profile_of(name: str) -> Path:
    """Return where a model's profile on a CPU stands."""
    return ROOT / "profiles" / f"{name}-cpu.json"


def _rows(profile: Profile) -> list[str]:
    rows = []
    for name, mode in zip(profile.mode_names, profile.modes, strict=True):
        if (mode.precision or profile.precision) == "float32":
            first = f"`{profile.model}`, {profile.metric}" if not rows else ""
            rows.append(f"| {first} | {name.partition('@')[0]} | {_numbers(profile, mode)} |")
    return rows


def _numbers(profile: Profile, mode: Mode) -> str:
    latency_s = profile.columns(mode.latency_s)[-1][0]
    return f"{mode.accuracy:.3f} | {mode.accuracy_low:.3f} | {latency_s * 1e3:.1f}"


def _caption(profiles: list[Profile]) -> str:
    first = profiles[0]
    counts = ", ".join(f"{profile.model} {profile.modes[0].samples:,}" for profile in profiles)
    return (
        f"At float32, one thread of {first.device.name}, torch {first.software.get('torch')}, "
        f"{max(profile.measured_at for profile in profiles)[:10]}; test samples: {counts}. "
        "*At least* is the lower end of a one-sided 95% interval; where latency depends on length, it is the "
        "longest clip's."
    )


def with_block(page: str) -> str:
    """Return the page's text with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise FileError(f"{PAGE}: has no {BEGIN} … {END}")
    return before + block() + after


if __name__ == "__main__":
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8")))
    print(PAGE)
