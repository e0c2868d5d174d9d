import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import RefusedError
from mosel.frontend.quotas import Quotas


def test_a_tenant_within_its_quota_is_let_in() -> None:
    """Ten requests a second, evenly, for ever."""
    quotas = Quotas({"gold": 10})
    for step in range(100):
        quotas.take("gold", 1, to_ns(step / 10))


def test_a_tenant_over_its_quota_is_told_when_to_come_back() -> None:
    """After what it saved up in two seconds; a second later a second's worth is there again."""
    quotas = Quotas({"gold": 10})
    quotas.take("gold", 20, 0)
    with pytest.raises(RefusedError, match="10 requests a second") as caught:
        quotas.take("gold", 5, 0)
    assert caught.value.retry_after_s == pytest.approx(0.5)
    quotas.take("gold", 10, to_ns(1))


def test_a_job_larger_than_what_can_be_saved_is_let_in_and_worked_off() -> None:
    """Otherwise it never could be."""
    quotas = Quotas({"gold": 10})
    quotas.take("gold", 50, 0)
    with pytest.raises(RefusedError) as caught:
        quotas.take("gold", 1, 0)
    assert caught.value.retry_after_s == pytest.approx(3.1)


def test_tenants_without_a_quota_share_that_of_everybody_or_have_none() -> None:
    """`*` is one for all that are not named."""
    Quotas({"gold": 1}).take("tin", 1000, 0)
    quotas = Quotas({"gold": 1, "*": 2})
    quotas.take("tin", 4, 0)
    with pytest.raises(RefusedError):
        quotas.take("lead", 1, 0)
