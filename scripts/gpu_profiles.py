"""Make the profiles of the paper's five models at full size, wherever a GPU is at hand, into `profiles/`.

    pip install -e '.[zoo]'                       # with a CUDA build of torch
    python scripts/gpu_profiles.py                # float32 and float16, with memory
    python scripts/gpu_profiles.py --device cpu --size small --precisions float32,bfloat16

Each profile is `profiles/MODEL-DEVICE.json` and names the hardware and the software. Given again, the command
goes on where it was: what is finished is left as it is, and an interrupted profile takes up its journal, which
has every timing of every cell. A model that fails does not keep the others from being profiled. The weights of
the full sizes are random, so that those profiles claim no accuracy (`"accuracy_source": "none"`).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mosel.core.errors import FileError, MoselError, UsageError
from mosel.core.tables import Profile, read_profile
from mosel.models.base import Model
from mosel.models.registry import find
from mosel.offline.profiler import make_profile
from mosel.offline.settings import Settings
from mosel.runtime.device import describe, software

MODELS = ("vilt", "tbn", "avhubert", "selfmm", "tvlt")
ROOT = Path(__file__).parent.parent


def main(words: Sequence[str] | None = None) -> None:
    """Make the profiles that are missing, and say where each stands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:INDEX")
    parser.add_argument("--size", default="full", choices=("full", "small"))
    parser.add_argument("--models", default=",".join(MODELS), help="some of them, joined by commas")
    parser.add_argument("--precisions", default="float32,float16", help="joined by commas; the usual one first")
    parser.add_argument("--output", type=Path, default=ROOT / "profiles", help="the folder")
    parser.add_argument("--batch", type=int, help="the largest batch; by default the model's own")
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--samples", type=int, help="labelled samples; by default all")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    given = parser.parse_args(words)
    settings = Settings(given.device, given.batch, given.threads, given.samples, given.repeats)
    words = [name if given.size == "full" else f"{name}-{given.size}" for name in given.models.split(",")]
    failed = [
        word for word in words if not attempted(word, given.precisions.split(","), settings, given.output)
    ]
    if failed:
        raise SystemExit(f"not made: {', '.join(failed)}; the reasons stand above")


def attempted(word: str, precisions: Sequence[str], settings: Settings, folder: Path) -> bool:
    """Make the profile of one model and print where it stands; where that fails say why, for others may not."""
    try:
        print(made(at(find(word), precisions), settings, folder), flush=True)
    except MoselError as error:
        print(f"{word}: {error}", file=sys.stderr, flush=True)
        return False
    return True


def at(model: Model, precisions: Sequence[str]) -> Model:
    """Return the model at those of `precisions` that it offers anywhere.

    Raises:
        UsageError: it offers none of them.
    """
    offered = model.precisions
    known = offered if isinstance(offered, tuple) else {each for kind in offered.values() for each in kind}
    chosen = tuple(precision for precision in precisions if precision in known)
    if not chosen:
        raise UsageError(f"model {model.name!r}: offers {', '.join(sorted(known))}, none of {precisions}")
    return replace(model, precisions=chosen)


def made(model: Model, settings: Settings, folder: Path) -> Path:
    """Return the file of a model's profile, made now if it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    device = describe(settings.device, model.framework)
    path = folder / f"{model.name}-{slug(device.name if device.kind == 'cuda' else device.kind)}.json"
    if not finished(path, model, settings):
        make_profile(model, settings, path, say=lambda text: print(f"{model.name}: {text}", file=sys.stderr))
    return path


def finished(path: Path, model: Model, settings: Settings) -> bool:
    """Return whether the file holds the profile of these weights, precisions, device and software."""
    if not path.exists():
        return False
    try:
        old = read_profile(path).profile
    except FileError:
        return False
    here = describe(settings.device, model.framework), software(model.framework)
    return (old.device, old.software) == here and _of(old) == (model.version, set(model.precisions))


def slug(name: str) -> str:
    """Return the name of a device as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _of(profile: Profile) -> tuple[object, set[str]]:
    precisions = {mode.precision or profile.precision for mode in profile.modes}
    return (profile.extra or {}).get("version"), precisions


if __name__ == "__main__":
    main()
