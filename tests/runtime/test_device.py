import os
import subprocess
import sys
from pathlib import Path

import pytest

from mosel.core.errors import UsageError
from mosel.core.tables import Device
from mosel.runtime.device import default_device, describe, pinned, profile_path, software, worker_cores

CPU = Device("Some CPU @ 2.3 GHz", "cpu")


def test_workers_take_the_last_cores_and_leave_the_first_to_the_server() -> None:
    """Worker i has core n − 1 − i; only with too few cores do workers share."""
    assert [worker_cores(i, 1, range(4)) for i in range(4)] == [(3,), (2,), (1,), (3,)]


def test_a_worker_with_several_threads_has_as_many_cores() -> None:
    """Blocks of cores do not overlap while there are enough."""
    assert [worker_cores(i, 2, range(6)) for i in range(2)] == [(4, 5), (2, 3)]


def test_a_lone_core_is_shared_by_all() -> None:
    """With one core everything runs on it."""
    assert [worker_cores(i, 1, [7]) for i in range(2)] == [(7,), (7,)]


@pytest.mark.parametrize("threads", [0, 5])
def test_more_threads_than_cores_is_a_usage_error(threads: int) -> None:
    """The message says how many cores there are."""
    with pytest.raises(UsageError, match=f"{threads} threads asked for; this process may use 4 CPU cores"):
        worker_cores(0, threads, range(4))


def test_pinning_ends_with_its_block() -> None:
    """Inside the block the thread keeps to its cores, afterwards it has what it had."""
    before = os.sched_getaffinity(0)
    with pinned([max(before)]):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before


def test_a_numpy_model_runs_on_the_host_under_the_cpus_name() -> None:
    """The kind tells a host from torch on the same CPU."""
    host, cpu = describe("cpu", "numpy"), describe("cpu")
    assert (host.kind, cpu.kind) == ("host", "cpu")
    assert host.name == cpu.name != ""
    assert default_device("numpy") == "cpu"


def test_an_unknown_device_is_a_usage_error() -> None:
    """The message lists what is expected."""
    with pytest.raises(UsageError, match="device 'tpu': expected cpu, cuda or cuda:INDEX"):
        describe("tpu")


def test_software_names_torch_only_where_it_runs() -> None:
    """A numpy model's profile holds whatever torch is installed."""
    assert set(software("torch")) - set(software("numpy")) == {"torch"}


def test_profiles_are_kept_apart_by_all_that_changes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Model, version, device and threads each have a file of their own, inside the cache."""
    monkeypatch.setenv("MOSEL_CACHE", str(tmp_path))
    paths = {
        profile_path("m", "1", CPU),
        profile_path("n", "1", CPU),
        profile_path("m", "2", CPU),
        profile_path("m", "1", Device(CPU.name, "host")),
        profile_path("m", "1", CPU, threads=2),
        profile_path("../../m", "../1", CPU),
    }
    assert len(paths) == 6
    assert all(tmp_path in path.resolve().parents for path in paths)


def test_naming_the_cpu_does_not_import_torch() -> None:
    """A server on a CPU starts without torch, whose import takes seconds; its workers need it, and are told."""
    asked = (
        "import sys; from mosel.runtime import device; device.describe('cpu'); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_torch_has_to_be_installed_for_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch the device of a torch model cannot be described, and the message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"framework 'torch' needs torch: pip install 'mosel\[torch\]'"):
        describe("cpu")
