import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mosel.online import wire
from mosel.online.frames import Unframer
from mosel.online.serving import EngineConfig, ServedModel, start_message
from mosel.online.slab import Slab
from tests.process import served_models

pytestmark = pytest.mark.process

LIMIT_S = 60


class Peer:
    """The engine's side of one worker process, step by step."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(LIMIT_S)
        self.slabs = [Slab.create("test") for _ in range(2 * wire.SLOTS)]
        handles = [theirs.fileno(), *(slab.handle for slab in self.slabs)]
        command = [sys.executable, "-m", "mosel.online.worker", *map(str, handles)]
        self.process = subprocess.Popen(command, pass_fds=handles, stderr=subprocess.PIPE)
        theirs.close()
        self._unframer = Unframer()
        self._messages: list[wire.FromWorker] = []

    def tell(self, message: wire.ToWorker) -> None:
        """Send a message."""
        self.socket.sendall(wire.frame(message))

    def hear(self) -> wire.FromWorker:
        """Return the next message of the worker."""
        while not self._messages:
            data = self.socket.recv(1 << 16)
            assert data, "the worker is gone"
            self._messages += map(wire.from_worker.decode, self._unframer.feed(data))
        return self._messages.pop(0)

    def batch(self, number: int, slot: int, *numbers: float) -> wire.Run:
        """Write a batch into a slot and return the message that tells of it."""
        layouts = self.slabs[slot].write({"plain": [np.array([[n]], np.float32) for n in numbers]})
        mapped = self.slabs[slot].mapped_bytes
        return wire.Run(number, slot, mapped, "obedient", ("plain",), "float32", layouts)

    def outputs(self, done: wire.FromWorker) -> list[float]:
        """Return the numbers that a finished batch gave."""
        assert isinstance(done, wire.Done)
        slab = self.slabs[wire.SLOTS + done.slot]
        slab.attach(done.slab_bytes)
        [array] = slab.parts(done.outputs[0])
        return [float(n) for n in array[:, 0]]

    def close(self) -> None:
        """Hang up, and end the process if it does not end by itself."""
        self.socket.close()
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self.process.communicate()
            for slab in self.slabs:
                slab.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Return the engine's side of a worker process that has not been told anything."""
    found = Peer()
    yield found
    found.close()


@pytest.fixture
def warm(peer: Peer) -> Peer:
    """Return the engine's side of a worker that serves `obedient`."""
    model = served_models.obedient
    served = ServedModel("tests.process.served_models:obedient", model, served_models.profile(model))
    peer.tell(start_message(0, [served], EngineConfig()))
    assert peer.hear() == wire.Ready()
    return peer


def test_two_batches_in_hand_are_answered_in_order(warm: Peer) -> None:
    """Each in its own slot, with its own outputs and a time that is not zero."""
    warm.tell(warm.batch(1, 0, 1, 2))
    warm.tell(warm.batch(2, 1, 3))
    first, second = warm.hear(), warm.hear()
    assert isinstance(first, wire.Done)
    assert isinstance(second, wire.Done)
    assert (first.batch, first.slot, second.batch, second.slot) == (1, 0, 2, 1)
    assert (warm.outputs(first), warm.outputs(second)) == ([2, 4], [6])
    assert first.took_ns > 0


def test_a_batch_that_fails_does_not_harm_the_next(warm: Peer) -> None:
    """The error comes back as one line; the batch behind it runs."""
    warm.tell(warm.batch(1, 0, served_models.RAISE))
    warm.tell(warm.batch(2, 1, 5))
    failed = warm.hear()
    assert isinstance(failed, wire.Failed)
    assert "ValueError: unlucky number" in failed.detail
    assert "\n" not in failed.detail
    assert warm.outputs(warm.hear()) == [10]


def test_it_ends_when_the_engine_is_gone_though_the_device_is_busy(warm: Peer) -> None:
    """A worker whose model never returns does not outlive its engine."""
    warm.tell(warm.batch(1, 0, served_models.HANG))
    warm.socket.close()
    assert warm.process.wait(LIMIT_S) == 0


def test_sigterm_to_the_group_does_not_end_it(warm: Peer) -> None:
    """A supervisor that signals every process lets the server drain: the worker goes on."""
    os.kill(warm.process.pid, signal.SIGTERM)
    warm.tell(warm.batch(1, 0, 4))
    assert warm.outputs(warm.hear()) == [8]


def test_the_device_thread_keeps_to_its_cores(warm: Peer) -> None:
    """One thread is on the worker's cores, the main thread and the reader on the others."""
    warm.tell(warm.batch(1, 0, 1))
    warm.hear()  # the reader has read: it is where it stays
    threads = [allowed(task) for task in Path(f"/proc/{warm.process.pid}/task").iterdir()]
    model = served_models.obedient
    start = start_message(0, [ServedModel("x:y", model, served_models.profile(model))], EngineConfig())
    assert threads.count(set(start.cores)) == (1 if start.cores != start.beside else len(threads))
    assert allowed(Path(f"/proc/{warm.process.pid}")) == set(start.beside)


def allowed(task: Path) -> set[int]:
    """Return the CPU cores that a thread may use."""
    return os.sched_getaffinity(int(task.name))


def test_started_by_hand_it_says_what_to_run_instead(peer: Peer) -> None:
    """A worker that is not spoken to ends with a hint, not a stack of unrelated errors."""
    peer.socket.close()
    _, errors = peer.process.communicate(timeout=LIMIT_S)
    assert "run `mosel serve` instead" in errors.decode()
