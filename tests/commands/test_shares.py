import msgspec
import pytest

from mosel.commands import shares
from mosel.commands.shares import shares_of, with_groups_named
from mosel.frontend.config import GroupConfig, ServeConfig
from mosel.online.serving import ServedModel


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(config: ServeConfig, device: str, say: object) -> tuple[ServedModel, ...]:
        del config, device, say
        return ()

    monkeypatch.setattr(shares, "served_models", one)
    monkeypatch.setattr(shares, "device_of", lambda config: config.device or "cpu")


def found(config: ServeConfig) -> list[tuple[int, int, int, int]]:
    """Return each group's workers, the most that it may have, and where it stands on the machine."""
    return [
        (share.config.workers, share.config.most_workers, share.first, share.on_machine)
        for share in shares_of(config, print)
    ]


def test_groups_that_are_alike_share_the_workers_out() -> None:
    """As evenly as it goes, each with room for its own."""
    assert found(ServeConfig(workers=5, groups=2)) == [(2, 0, 0, 5), (3, 0, 2, 5)]
    assert found(ServeConfig(workers=2, groups=2, most_workers=6)) == [(1, 3, 0, 6), (1, 3, 3, 6)]


def test_groups_that_are_not_keep_to_devices_of_their_own() -> None:
    """GPUs are counted apart from cores, and cores by the threads of those before."""
    cpu, gpu = GroupConfig(workers=2, threads=3), GroupConfig(workers=2, device="cuda")
    config = ServeConfig(group=(cpu, gpu, GroupConfig(threads=2), gpu), front_doors=1)
    named = with_groups_named(config)
    assert (named.groups, named.workers) == (4, 7)
    assert found(named) == [(2, 0, 0, 3), (2, 0, 0, 4), (1, 0, 3, 4), (2, 0, 2, 4)]


def test_what_a_group_does_not_say_is_as_for_all() -> None:
    """Its profiles, its device and its threads."""
    group = GroupConfig(profile=("own.json",))
    config = ServeConfig(profile=("all.json",), device="cuda", threads=2, group=(group, GroupConfig()))
    own, other = (
        share.config
        for share in shares_of(with_groups_named(msgspec.structs.replace(config, front_doors=1)), print)
    )
    assert (own.profile, own.device, own.threads) == (("own.json",), "cuda", 2)
    assert other.profile == ("all.json",)
