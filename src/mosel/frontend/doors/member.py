"""A group's application: the one that serves alone, but for what a front door tells it of a call.

The arrival is the one at the door. A job that would be late by the backlog as it is now is passed on, if the
door allows it, before its body is looked at.
"""

import math
from collections.abc import Callable

from starlette.types import Receive, Scope

from mosel.frontend.doors.wire import on_its_way, times_of
from mosel.frontend.heads import Target
from mosel.frontend.http import HttpApp
from mosel.frontend.keys import Keys
from mosel.frontend.replies import Reply
from mosel.frontend.service import Service
from mosel.online.group import Load

NEVER_NS = 1 << 62


class MemberApp(HttpApp):
    """The application of one group.

    Args:
        service: the handlers.
        keys: see `HttpApp`.
        load: says how the group stands now.
    """

    def __init__(self, service: Service, keys: Keys | None, load: Callable[[], Load]) -> None:
        super().__init__(service, keys)
        self._load = load

    def know(self, raw: bytes, scope: Scope) -> None:
        """Know no head: the time of arrival is in it, so that none comes twice."""

    async def _reply(
        self, target: Target, arrival_ns: int, tenant: str | None, scope: Scope, receive: Receive
    ) -> Reply:
        told_ns, start_ns = times_of(scope["headers"])
        if start_ns is not None and (late_ns := self._late_ns(start_ns)) > 0:
            self._bodies.release(len(await self._bodies.read(receive, 0)))
            return on_its_way(late_ns)
        return await super()._reply(target, arrival_ns if told_ns is None else told_ns, tenant, scope, receive)

    def _late_ns(self, start_ns: int) -> int:
        """Return by how much a job is expected to begin too late here."""
        load = self._load()
        if not load.up:
            return NEVER_NS
        return math.ceil(self.now_ns() + load.work_ns / load.up - start_ns)
