import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mosel import __version__

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SHIPPED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "src")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy of what ships, so that no build folder of the checkout has a part in it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        _copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_what_ships(wheel: Path) -> None:
    """The wheel has every module and data file of the package, `py.typed` and the licence, and nothing else."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "mosel"
    wanted = {
        f"mosel/{file.relative_to(package)}"
        for file in package.rglob("*")
        if file.suffix
        in {".py", ".typed", ".npz", ".safetensors", ".txt", ".js", ".css", ".html", ".proto", ".binpb"}
    }
    assert "mosel/py.typed" in wanted
    assert wanted == {name for name in names if name.startswith("mosel/")}
    assert {Path(name).name for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_what_is_compiled_exists() -> None:
    """Every module that the build compiles when asked to is there; the wheel that the tests make has none."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (words,) = (
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    )
    modules = str(words).split()
    assert "online/scheduler" in modules
    assert [name for name in modules if not (ROOT / "src" / "mosel" / f"{name}.py").is_file()] == []


def test_installed_wheel_runs_anywhere(wheel: Path, tmp_path: Path) -> None:
    """In a new environment, outside the repository, the installed command answers and finds its data."""
    python = _environment_with(wheel, tmp_path / "env")
    mosel = python.parent / "mosel"
    assert _run(mosel, "--version", folder=tmp_path).strip() == __version__
    assert "Commands" in _run(mosel, "--help", folder=tmp_path)
    where = _run(python, "-c", "import mosel; print(mosel.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path)


def test_bundled_model_is_in_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """From the wheel alone the bundled model is found by its name, loads its weights and has its samples."""
    python = _environment_with(wheel, tmp_path / "env")
    code = (
        "from mosel.models.registry import find; model = find('av-digits'); "
        "model.load('cpu', model.precisions[0]); print(len(model.samples()))"
    )
    assert int(_run(python, "-c", code, folder=tmp_path)) > 0


def _environment_with(wheel: Path, folder: Path) -> Path:
    """Return the Python of a new environment that has the wheel, and this one's other packages beside it."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet"]
    subprocess.run([*install, "--no-index", "--disable-pip-version-check", str(wheel)], check=True)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def _run(command: Path, *words: str, folder: Path | None = None) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([command, *words], cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target)
