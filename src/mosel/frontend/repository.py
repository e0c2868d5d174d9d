"""The models that a server was started with, each of which can be unloaded and loaded again.

An unloaded model takes no jobs; its weights stay with the workers, so that loading it again takes no time.
Those that the server was not started with cannot be loaded: workers get their models when they start.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from mosel.core.errors import InputError, RefusedError, UnknownModelError
from mosel.online.serving import ServedModel

READY, UNAVAILABLE = "READY", "UNAVAILABLE"


class Readiness(Protocol):
    """What is asked of an engine."""

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""


class Repository:
    """Which models take jobs, and how many calls for each are under way.

    Args:
        served: the models by name.
        engine: what runs them.
    """

    def __init__(self, served: Mapping[str, ServedModel], engine: Readiness) -> None:
        self._served = served
        self._engine = engine
        self._unloaded: set[str] = set()
        self._live = dict.fromkeys(served, 0)
        self._drained = {name: asyncio.Event() for name in served}

    def loaded(self, name: str) -> bool:
        """Return whether the model called `name` has not been unloaded."""
        return name not in self._unloaded

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Count a call for a model while it is under way.

        Raises:
            RefusedError: the model has been unloaded.
        """
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def begin(self, name: str) -> None:
        """Count a call for a model, which is under way until `end`.

        Raises:
            RefusedError: the model has been unloaded.
        """
        if name in self._unloaded:
            raise RefusedError(f"model {name!r} is unloaded; load it: POST /v2/repository/models/{name}/load")
        self._live[name] += 1

    def end(self, name: str) -> None:
        """Count a call no more."""
        self._live[name] -= 1
        if not self._live[name]:
            self._drained[name].set()

    def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """Return name, version, state and reason of every model; with `ready_only` of those that take jobs."""
        found = []
        for name, served in self._served.items():
            state, reason = self._state(name)
            if state == READY or not ready_only:
                found.append({"name": name, "version": served.model.version, "state": state, "reason": reason})
        return found

    def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Let a model take jobs again.

        Raises:
            UnknownModelError: the server was not started with it.
            InputError: there are parameters; a model is loaded as it was started.
        """
        self._find(name)
        if parameters:
            raise InputError(
                f"parameters {', '.join(sorted(parameters))} are given; expected none: a model is loaded as "
                "the server was started with it"
            )
        self._unloaded.discard(name)
        self._drained[name].set()  # nobody waits for the end of jobs that may come again

    async def unload(self, name: str) -> None:
        """Take no more jobs for a model and return when those that were accepted have their answers.

        Raises:
            UnknownModelError: the server was not started with it.
        """
        self._find(name)
        self._drained[name].clear()
        self._unloaded.add(name)
        if self._live[name]:
            await self._drained[name].wait()

    def _state(self, name: str) -> tuple[str, str]:
        if name in self._unloaded:
            return UNAVAILABLE, f"unloading: {self._live[name]} calls" if self._live[name] else "unloaded"
        return (READY, "") if self._engine.ready else (UNAVAILABLE, "the server is loading or draining")

    def _find(self, name: str) -> None:
        if name not in self._served:
            raise UnknownModelError(
                f"model {name!r} is not one that this server was started with ({', '.join(self._served)}); "
                f"workers get their models when they start: start the server with it, mosel serve … {name}"
            )
