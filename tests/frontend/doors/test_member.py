"""What a group makes of a call that a front door hands on."""

from mosel.frontend import codes
from mosel.frontend.doors.member import SecondLook
from mosel.frontend.doors.wire import head_of, late_ns_of, with_times
from mosel.frontend.replies import Reply
from mosel.online.group import Load


def headers(arrival_ns: int, start_ns: int | None) -> list[tuple[bytes, bytes]]:
    """Return the headers that a group reads of what a door writes."""
    head = head_of("POST", b"/infer", [(b"mosel-start-ns", b"5"), (b"accept", b"*/*")], 3)
    lines = with_times(head, arrival_ns, start_ns).strip().split(b"\r\n")[1:]
    pairs = [tuple(line.split(b": ", 1)) for line in lines]
    return [(name, value) for name, value in pairs]


def looked(load: Load, arrival_ns: int, start_ns: int | None) -> int | Reply:
    """Look at a call that comes at 100."""
    return SecondLook(lambda: load, lambda: 100).arrived(headers(arrival_ns, start_ns), 100)


def test_the_arrival_is_the_door_s() -> None:
    """Not when it came here, nor what a client says; without a door the call came now."""
    assert looked(Load(1e9, 1), 90, None) == 90
    assert SecondLook(lambda: Load(0.0, 1), lambda: 100).arrived([], 100) == 100


def test_a_job_that_would_be_late_is_passed_on() -> None:
    """By as much as the work before the workers that are up is too much; if none is, in any case."""
    assert looked(Load(20.0, 2), 90, 110) == 90
    for load, late_ns in ((Load(22.0, 2), 1), (Load(0.0, 0), 1 << 62)):
        found = looked(load, 90, 110)
        assert isinstance(found, Reply)
        assert (found.status, late_ns_of(found)) == (codes.MISDIRECTED, late_ns)
